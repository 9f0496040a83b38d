"""Rigid alignment of two sections by the outline of their tissue: trimmed ICP from every direction, flips allowed.

Chetverikov et al. 2002, "The Trimmed Iterative Closest Point Algorithm" (doi:10.1109/ICPR.2002.1047997).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, binary_fill_holes, distance_transform_edt, label
from scipy.spatial import cKDTree
from stzoo.core.errors import ConfigError, DataError, UnitsError
from stzoo.core.interfaces import Aligner, Progress
from stzoo.core.section import Section
from stzoo.core.tissue import tissue_mask
from stzoo.core.transform import Transform

Array = npt.NDArray[np.float64]
FEWEST_SPOTS = 10
MOST_POINTS = 4000
AMBIGUOUS = 1.3
"""Another orientation whose outlines lie at most this many times as far apart (and 1 µm) is reported."""
BEST = 6
"""Directions that are tried in full."""


@dataclass
class RigidConfig:
    """Options of :class:`Rigid`.

    Parameters
    ----------
    step_deg
        Distance between the angles that ICP starts from, degrees.
    flips
        Try the mirror image of the moving section too.
    overlap
        Smallest share of the tissue that both sections are expected to show (torn, cut off or missing elsewhere);
        the share itself is found by trimmed ICP between this and 1.
    mask_um
        µm/px at which the tissue is outlined.
    iterations
        Most ICP steps from one start.
    """

    step_deg: float = 15.0
    flips: bool = True
    overlap: float = 0.6
    mask_um: float = 16.0
    iterations: int = 60


class Rigid(Aligner):
    """Finds the turn, the shift and, if allowed, the mirroring that lay one tissue outline upon another.

    The outline is that of the tissue on the slides where both sections have one, else the spots stand for the
    tissue. It uses no gene and no colour, so it can not tell apart the positions of a symmetric piece of tissue.
    """

    name = "rigid"
    config_class = RigidConfig
    config: RigidConfig

    def align(self, moving: Section, fixed: Section, *, progress: Progress | None = None) -> Transform:
        """Return the transform from micrometres of ``moving`` to micrometres of ``fixed``.

        Raises
        ------
        DataError
            A section has fewer than 10 spots (or no tissue on its slide).
        UnitsError
            A section has no µm/px.
        """
        self._check()
        images = moving.slide is not None and fixed.slide is not None
        source, target = (self._shape(section, images) for section in (moving, fixed))
        starts = list(self._starts(source.centre, target.centre))
        outline = cKDTree(target.outline)
        thin, middle = source.outline[:: max(1, len(source.outline) // 400)], (1 + self.config.overlap) / 2
        found: list[tuple[float, Array]] = []
        for done, start in enumerate(starts, 1):
            found.append(self._icp(thin, outline, start, middle))
            if progress is not None:
                progress(done, len(starts))
        found = sorted(found, key=_score)[:BEST]
        # A part that one section lacks pulls the centres apart, so the best directions start beside them as well.
        reach = np.ptp(target.outline, axis=0).mean() / 6
        for (_, matrix), side in product(found[:BEST], ((reach, 0), (-reach, 0), (0, reach), (0, -reach))):
            beside = matrix + np.column_stack([np.zeros((2, 2)), side])
            found.append(self._icp(thin, outline, beside, self.config.overlap))
        best = sorted(found[:BEST], key=_score) + sorted(found[BEST:], key=_score)[:BEST]
        fine, shares = cKDTree(target.points), np.linspace(self.config.overlap, 1, 5)
        refined = [self._icp(source.points, fine, matrix, share) for _, matrix in _distinct(best) for share in shares]
        refined.sort(key=_score)
        _warn_if_ambiguous(refined)
        return Transform(refined[0][1])

    def _check(self) -> None:
        config = self.config
        for key, valid, expected in (
            ("step_deg", 0 < config.step_deg <= 120, "above 0, at most 120"),
            ("overlap", 0.3 <= config.overlap <= 1, "0.3 to 1"),
            ("mask_um", config.mask_um > 0, "above 0"),
            ("iterations", config.iterations >= 1, "at least 1"),
        ):
            if not valid:
                raise ConfigError(f"{key} of 'rigid' is {getattr(config, key)}, expected {expected}")

    def _shape(self, section: Section, images: bool) -> _Shape:
        """Return the points that stand for a section's tissue."""
        if not images:
            return _of_spots(section, np.random.default_rng(self.seed))
        slide = section.require_slide()
        mpp = slide.mpp if section.mpp is None else section.mpp
        if mpp is None:
            raise UnitsError(f"section '{section.name}' has no µm/px", where=section.source or None, todo="--mpp VALUE")
        pixels, scale = slide.thumbnail(max(32, round(max(slide.width, slide.height) * mpp / self.config.mask_um)))
        mask = _with_spots(tissue_mask(pixels, mpp=mpp / scale), section, scale)
        outline = _to_um(section, (_border(mask) + 0.5) / scale, mpp)
        inside = np.argwhere(mask)[:, ::-1].astype(np.float64)
        return _Shape(outline, outline, _to_um(section, (inside + 0.5) / scale, mpp).mean(axis=0))

    def _starts(self, source: Array, target: Array) -> Iterator[Array]:
        """Yield one matrix (2, 3) a direction and side, each laying one centre of the tissue upon the other."""
        for flip in (False, True) if self.config.flips else (False,):
            for angle in np.arange(0, 360, self.config.step_deg):
                yield Transform.rigid(float(angle), tuple(target - source), flip=flip, centre=tuple(source)).matrix

    def _icp(self, source: Array, target: cKDTree, matrix: Array, share: float) -> tuple[float, Array]:
        """Return the score and the matrix that ICP ends in, when a share of the points is fitted.

        The score is the mean distance of that share (both ways, µm), over its cube: more overlap at the price of a
        little more distance is better (Chetverikov et al., with their lambda = 2).
        """
        turn, shift = matrix[:, :2], matrix[:, 2]
        side = np.sign(np.linalg.det(turn))
        kept = max(3, int(share * len(source)))
        for _ in range(self.config.iterations):
            distance, nearest = _nearest(target, source @ turn.T + shift)
            near = np.argpartition(distance, kept - 1)[:kept]
            better, moved = _fitted(source[near], target.data[nearest[near]], side)
            still = np.abs(better - turn).max() < 1e-7 and np.abs(moved - shift).max() < 1e-3
            turn, shift = better, moved
            if still:
                break
        placed = source @ turn.T + shift
        there, back = _nearest(target, placed)[0], _nearest(cKDTree(placed), target.data)[0]
        score = (_trimmed(there, share) + _trimmed(back, share)) / 2
        return score / share**3, np.column_stack([turn, shift])


@dataclass(frozen=True)
class _Shape:
    """A piece of tissue: outline (m, 2), the points of the final fit (n, 2), and its centre; micrometres."""

    outline: Array
    points: Array
    centre: Array


def _score(found: tuple[float, Array]) -> float:
    return found[0]


def _distinct(found: list[tuple[float, Array]]) -> list[tuple[float, Array]]:
    """Leave out matrices that ICP reached from several starts."""
    kept: list[tuple[float, Array]] = []
    for one in found:
        if not any(np.abs(one[1] - other[1]).max() < 1e-3 for other in kept):
            kept.append(one)
    return kept


def _warn_if_ambiguous(found: list[tuple[float, Array]]) -> None:
    """Say so when another orientation fits nearly as well as the best; ``found`` is sorted."""
    score, best = found[0]
    for other, matrix in found[1:]:
        apart = np.linalg.norm(matrix[:, :2] - best[:, :2], ord=2)  # 2 sin(angle / 2) for two turns, 2 for a flip
        if apart > 2 * np.sin(np.deg2rad(15)) and other < AMBIGUOUS * score + 1:
            logging.getLogger(__name__).warning(
                "rigid: another orientation of the tissue fits nearly as well (%.0f against %.0f µm): check the "
                "result; where the section can not be mirrored, set flips=false",
                other,
                score,
            )
            return


def _of_spots(section: Section, random: np.random.Generator) -> _Shape:
    """Return the shape that the spots of a section cover."""
    points = section.um[_in_tissue(section)]
    if len(points) < FEWEST_SPOTS:
        raise DataError(
            f"section '{section.name}' has {len(points)} spots, too few to align (at least {FEWEST_SPOTS})",
            where=section.source or None,
        )
    pitch = float(np.percentile(_nearest(cKDTree(points), points, rank=2)[0], 95))
    extent = np.ptp(points, axis=0).max()
    if not pitch > 0 or not np.isfinite(extent):
        raise DataError(f"the spots of section '{section.name}' lie upon each other", where=section.source or None)
    cell = max(pitch / 5, extent / 1000)
    low = points.min(axis=0) - 2 * pitch
    columns, rows = np.ceil((points.max(axis=0) + 2 * pitch - low) / cell).astype(int)
    free = np.ones((rows, columns), dtype=bool)
    place = ((points - low) / cell).astype(int)
    free[place[:, 1], place[:, 0]] = False
    covered = binary_fill_holes(distance_transform_edt(free) * cell <= pitch)
    used = points if len(points) <= MOST_POINTS else random.choice(points, MOST_POINTS, replace=False)
    return _Shape(low + (_border(covered) + 0.5) * cell, used, points.mean(axis=0))


def _in_tissue(section: Section) -> npt.NDArray[np.bool_]:
    """Return which spots lie under tissue, bool (n,), as far as the section says so."""
    if "in_tissue" not in section.adata.obs:
        return np.ones(len(section), dtype=bool)
    under = section.adata.obs["in_tissue"].to_numpy().astype(bool)
    return np.asarray(under if under.any() else ~under)


def _with_spots(mask: npt.NDArray[np.bool_], section: Section, scale: float) -> npt.NDArray[np.bool_]:
    """Leave out pieces of the mask without spots (frame, pen, neighbouring tissue), if any piece has some."""
    if "spatial" not in section.adata.obsm:
        return mask
    pieces, count = label(mask)
    at = (section.pixels[_in_tissue(section)] * scale).astype(int)
    inside = ((at >= 0) & (at < mask.shape[::-1])).all(axis=1)
    spots = np.bincount(pieces[at[inside, 1], at[inside, 0]], minlength=count + 1)
    held = spots >= 0.02 * max(1, inside.sum())
    held[0] = False
    return np.asarray(held[pieces]) if held.any() else mask


def _nearest(tree: cKDTree, points: Array, rank: int = 1) -> tuple[Array, npt.NDArray[np.intp]]:
    """Return the distance and the index of the ``rank``-th nearest point of the tree, (n,) each."""
    distance, index = tree.query(points, k=[rank])
    return np.asarray(distance)[:, 0], np.asarray(index)[:, 0]


def _trimmed(distance: Array, share: float) -> float:
    return float(np.sort(distance)[: max(3, int(share * len(distance)))].mean())


def _border(mask: npt.NDArray[np.bool_]) -> Array:
    """Return the border pixels of a mask, float64 (n, 2), column then row."""
    return np.argwhere(mask & ~binary_erosion(mask))[:, ::-1].astype(np.float64)


def _to_um(section: Section, pixels: Array, mpp: float) -> Array:
    """Return slide pixels in the frame of ``section.um`` (which readers may have turned or shifted)."""
    if not {"spatial", "spatial_um"} <= set(section.adata.obsm):
        return pixels * mpp
    spots = np.column_stack([section.pixels, np.ones(len(section))])
    fit, _, rank, _ = np.linalg.lstsq(spots, section.um, rcond=None)
    return pixels * mpp if rank < 3 else np.column_stack([pixels, np.ones(len(pixels))]) @ fit


def _fitted(source: Array, target: Array, side: float) -> tuple[Array, Array]:
    """Return the turn (with a mirror where ``side`` is -1) and shift of least squares (Kabsch 1976)."""
    middle, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, v = np.linalg.svd((target - goal).T @ (source - middle))
    turn = u @ np.diag([1.0, side * np.sign(np.linalg.det(u @ v))]) @ v
    return turn, goal - turn @ middle
