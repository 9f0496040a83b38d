"""Where aligner ``ot`` starts: every turn and both sides, with all shifts at once, by cross-correlation (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from stzoo import Transform
from stzoo.core.arrays import Doubles
from stzoo.plugins.baselines.aligners._ot_features import Cloud

CELLS = 48
"""Cells a side of the grid on which turns are compared."""
COVERED = 0.4
"""A cell belongs to the tissue where the density of spots is at least this share of the usual one."""
MOST_SPOTS = 4000
"""Most spots by which a turn is refined."""


@dataclass(frozen=True)
class Map:
    """Smoothed expression on a grid.

    Parameters
    ----------
    values
        float64 (k, rows, columns), 0 outside the tissue.
    mask
        float64 (rows, columns), 0 to 1: how densely the place is covered.
    low, cell
        Corner (x, y) of the grid and side of a cell, micrometres.
    """

    values: Doubles
    mask: Doubles
    low: Doubles
    cell: float

    @classmethod
    def of(
        cls, cloud: Cloud, points: Doubles, *, low: Doubles, cell: float, shape: tuple[int, int], width: float
    ) -> Map:
        """Spread spots at some points by a Gaussian of ``width`` µm; a value is the weighted mean around its cell."""
        at = np.floor((points - low) / cell).astype(int)
        index = at[:, 1] * shape[1] + at[:, 0]

        def spread(weights: Doubles | None) -> Doubles:
            sums = np.bincount(index, weights, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
            return np.asarray(gaussian_filter(sums, width / cell, mode="constant"))

        density = spread(None)
        mask = np.clip(density / np.median(density.ravel()[index]), 0, 1)
        mask[mask < COVERED] = 0
        values = np.stack([spread(column) for column in cloud.values.T])
        return cls(np.where(mask > 0, values / np.maximum(density, 1e-12), 0), mask, low, cell)

    @property
    def area(self) -> float:
        """Area of the tissue, square micrometres."""
        return float(self.mask.sum()) * self.cell**2

    def sample(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """Return values (k, n) and mask (n,) at some points, bilinear; 0 outside."""
        place = ((points - self.low) / self.cell - 0.5)[:, ::-1].T
        values = [map_coordinates(plane, place, order=1, mode="constant") for plane in self.values]
        return np.stack(values), np.asarray(map_coordinates(self.mask, place, order=1, mode="constant"))


@dataclass(frozen=True)
class ScoredTransform:
    """A rigid transform, how well expression agrees under it (at most 1), and the share of tissue that overlaps."""

    score: float
    share: float
    matrix: Doubles


def measure_spacing(cloud: Cloud) -> float:
    """Return the usual distance of a spot from its nearest neighbour, micrometres."""
    distance, _ = cKDTree(cloud.points).query(cloud.points, k=2)
    return float(np.median(np.asarray(distance)[:, 1]))


def make_fine_map(cloud: Cloud) -> Map:
    """Return the map of a section on which a transform is refined: cells of half the distance between its spots."""
    gap = measure_spacing(cloud)
    cell = max(gap / 2, float(np.ptp(cloud.points, axis=0).max()) / 1000)
    low = cloud.points.min(axis=0) - 4 * gap
    columns, rows = np.ceil((cloud.points.max(axis=0) + 4 * gap - low) / cell).astype(int)
    return Map.of(cloud, cloud.points, low=low, cell=cell, shape=(int(rows), int(columns)), width=1.5 * cell)


def search(moving: Cloud, fixed: Cloud, *, step_deg: float, flips: bool, overlap: float) -> list[ScoredTransform]:
    """Return the best shift of every turn and side, best first.

    The score is the normalised correlation of all components over the tissue that overlaps (Padfield 2012, masked
    correlation by Fourier transforms), times the root of the share of the smaller tissue that overlaps.

    Parameters
    ----------
    step_deg
        Degrees between the turns.
    overlap
        Smallest share that is accepted.
    """
    centres = [cloud.points.mean(axis=0) for cloud in (moving, fixed)]
    reach = max(np.linalg.norm(c.points - m, axis=1).max() for c, m in zip((moving, fixed), centres, strict=True))
    cell = 2.04 * float(reach) / CELLS
    low, width = np.full(2, -CELLS / 2 * cell), max(cell, measure_spacing(moving), measure_spacing(fixed))
    grid = {"low": low, "cell": cell, "shape": (CELLS, CELLS), "width": width}
    target = _Spectra.of(Map.of(fixed, fixed.points - centres[1], **grid))  # type: ignore[arg-type]
    found = []
    for flip in (False, True) if flips else (False,):
        for angle in np.arange(0, 360, step_deg):
            turn = Transform.rigid(float(angle), flip=flip).matrix[:, :2]
            placed = Map.of(moving, (moving.points - centres[0]) @ turn.T, **grid)  # type: ignore[arg-type]
            score, share, shift = target.best(placed, overlap)
            matrix = np.column_stack([turn, centres[1] + shift * cell - turn @ centres[0]])
            found.append(ScoredTransform(score, share, matrix))
    return sorted(found, key=lambda one: -one.score)


@dataclass(frozen=True)
class _Spectra:
    """Fourier transforms of the fixed map, padded: values, mask and energy."""

    values: npt.NDArray[np.complex128]
    mask: npt.NDArray[np.complex128]
    energy: npt.NDArray[np.complex128]
    area: float
    most: float

    @classmethod
    def of(cls, fixed: Map) -> _Spectra:
        energy = (fixed.values**2 * fixed.mask).sum(axis=0)
        values = _spectrum(fixed.values * np.sqrt(fixed.mask))
        return cls(values, _spectrum(fixed.mask), _spectrum(energy), fixed.mask.sum(), energy.sum())

    def best(self, moving: Map, overlap: float) -> tuple[float, float, Doubles]:
        """Return score, share and shift (x, y; cells) of the best shift of a moving map."""
        mask, energy = _spectrum(moving.mask), (moving.values**2 * moving.mask).sum(axis=0)
        common = _correlation(self.mask, mask)
        dot = _correlation(self.values, _spectrum(moving.values * np.sqrt(moving.mask))).sum(axis=0)
        norm = _correlation(self.energy, mask) * _correlation(self.mask, _spectrum(energy))
        share = np.clip(common / min(self.area, moving.mask.sum()), 0, 1)
        score = dot / np.sqrt(np.maximum(norm, 1e-9 * self.most * energy.sum())) * np.sqrt(share)
        score[share < overlap] = -1.0
        row, column = np.unravel_index(int(score.argmax()), score.shape)
        shift = np.array([column, row], dtype=np.float64)
        shift[shift >= CELLS] -= 2 * CELLS
        return float(score[row, column]), float(share[row, column]), shift


def _spectrum(planes: Doubles) -> npt.NDArray[np.complex128]:
    return np.asarray(rfft2(planes, (2 * CELLS, 2 * CELLS)))


def _correlation(fixed: npt.NDArray[np.complex128], moving: npt.NDArray[np.complex128]) -> Doubles:
    return np.asarray(irfft2(fixed * np.conj(moving), (2 * CELLS, 2 * CELLS)))


def select_distinct(found: list[ScoredTransform], count: int, *, apart_deg: float) -> list[ScoredTransform]:
    """Return the best few that differ from one another by more than some degrees, or by side."""
    kept: list[ScoredTransform] = []
    least = 2 * np.sin(np.deg2rad(apart_deg) / 2)  # spectral norm of the difference of two turns
    for one in found:
        if all(np.linalg.norm(one.matrix[:, :2] - other.matrix[:, :2], ord=2) > least for other in kept):
            kept.append(one)
    return kept[:count]


def refine(moving: Cloud, fixed: Map, start: Doubles, *, reach: float) -> ScoredTransform:
    """Turn and shift a little, to where expression agrees best with the map of the fixed section.

    Parameters
    ----------
    start
        float64 (2, 3), where to start.
    reach
        Size of the first steps, micrometres (at the edge of the tissue, for turns).
    """
    some = slice(None, None, -(-len(moving) // MOST_SPOTS))
    points, values = moving.points[some], moving.values[some].T  # (k, n)
    middle, energy = points.mean(axis=0), (values**2).sum(axis=0)
    arms = (points - middle) @ start[:, :2].T
    radius = float(np.sqrt((arms**2).sum(axis=1).mean()))
    centre = start[:, :2] @ middle + start[:, 2]

    def agreement(step: Doubles) -> tuple[float, float]:
        turn = Transform.rigid(float(np.rad2deg(step[0] / radius))).matrix[:, :2]
        there, mask = fixed.sample(arms @ turn.T + centre + step[1:])
        norm = np.sqrt((mask * (there**2).sum(axis=0)).sum() * (mask * energy).sum())
        share = float(mask.mean())
        return float((mask * (there * values).sum(axis=0)).sum() / max(float(norm), 1e-12)) * np.sqrt(share), share

    simplex = np.vstack([np.zeros(3), reach * np.eye(3)])
    options = {"initial_simplex": simplex, "xatol": reach / 200, "fatol": 1e-6, "maxfev": 300}
    least: Any = minimize  # its stubs know no bare options
    best = least(lambda step: -agreement(step)[0], np.zeros(3), method="Nelder-Mead", options=options).x
    turn = Transform.rigid(float(np.rad2deg(best[0] / radius))).matrix[:, :2] @ start[:, :2]
    score, share = agreement(best)
    return ScoredTransform(score, share, np.column_stack([turn, centre + best[1:] - turn @ middle]))
