"""Quality control of alignments without ground truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from stzoo.core.arrays import Points
from stzoo.core.data.lattice import lattice_floor
from stzoo.core.data.section import Section
from stzoo.core.data.tissue import Overview, Tissue, in_tissue, overview, slide_tissue, spacing, spot_tissue
from stzoo.core.geometry.transform import Transform
from stzoo.core.slides.stain import haematoxylin

LEAST_DICE = 0.8
"""Threshold of the specification ``st-dai``, section 2.2: a section below it is flagged."""
GRID_UM = 32.0
"""Spacing of the grid on the moving tissue at which overlap, folds and stain are evaluated."""
_MOST_POINTS = 500_000
_STEP_UM = 0.01  # of finite differences; displacements are bilinear, so a short step is exact within a cell


@dataclass(frozen=True)
class Quality:
    """Quality measures of an alignment.

    Parameters
    ----------
    tissue
        Source of the tissue masks: ``slides`` or ``spots``.
    dice
        Dice overlap of the two tissue masks, 0 to 1.
    stain_correlation
        Pearson correlation of haematoxylin where both slides show tissue; None without slides.
    consistency_mean_um, consistency_p95_um
        Round-trip error of moving spots, mean and 95th percentile, from two independent alignments (forward and
        backward); None if there is only one.
    folds, grid_points, grid_um
        Number of points of the moving tissue where the map folds (local orientation opposite to the affine part),
        number of points tested, and their spacing.
    nearest_um
        Mean distance of the moving spots that land on fixed tissue to the nearest fixed spot; None if none does.
    lattice, floor_um
        Lattice type of the fixed spots, and the mean nearest-spot distance of a perfect alignment of such lattices;
        None for spots without a lattice.
    landed
        Share of the moving spots that land on fixed tissue.
    warnings
        Problems found; empty if the alignment passes.
    """

    tissue: str
    dice: float
    stain_correlation: float | None
    consistency_mean_um: float | None
    consistency_p95_um: float | None
    folds: int
    grid_points: int
    grid_um: float
    nearest_um: float | None
    lattice: str | None
    floor_um: float | None
    landed: float
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are no warnings."""
        return not self.warnings

    def lines(self) -> list[str]:
        """Return the quality as a few lines of text, warnings last."""
        lines = [f"overlap of the tissue (Dice, by {self.tissue}): {self.dice:.3f}, expected at least {LEAST_DICE}"]
        if self.stain_correlation is not None:
            lines.append(f"correlation of haematoxylin: {self.stain_correlation:.3f}")
        if self.consistency_mean_um is not None:
            lines.append(
                f"there and back: {self.consistency_mean_um:.1f} µm on average, 95 % within"
                f" {self.consistency_p95_um:.1f} µm"
            )
        lines.append(f"folds: {self.folds} of {self.grid_points} points, {self.grid_um:.0f} µm apart")
        if self.nearest_um is not None:
            floor = (
                "" if self.floor_um is None else f"; chance leaves {self.floor_um:.0f} µm on a {self.lattice} lattice"
            )
            lines.append(f"nearest spot: {self.nearest_um:.0f} µm on average{floor}")
        lines.append(f"spots that land on tissue: {self.landed:.1%}")
        return [*lines, *(f"warning: {text}" for text in self.warnings)]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "warnings": list(self.warnings), "passed": self.passed}


def quality(moving: Section, fixed: Section, transform: Transform, *, back: Transform | None = None) -> Quality:
    """Assess an alignment from tissue, stain and positions; counts are not read.

    Parameters
    ----------
    moving, fixed
        The aligned sections. Tissue masks come from the slides if both have one, otherwise from the area within one
        pitch of the spots.
    transform
        From micrometres of ``moving`` to micrometres of ``fixed``.
    back
        An independent alignment in the other direction (not ``transform.inverse()``, which always agrees).

    Raises
    ------
    DataError
        A section without tissue, or with fewer than 10 spots.
    UnitsError
        A section without µm/px.
    """
    slides = moving.slide is not None and fixed.slide is not None
    small = (overview(moving), overview(fixed)) if slides else None
    here, there = (
        (spot_tissue(moving), spot_tissue(fixed))
        if small is None
        else (slide_tissue(moving, small[0]), slide_tissue(fixed, small[1]))
    )
    points, grid_um = _grid(here, min(GRID_UM, transform.finest_um / 2))
    moved, growth = transform.apply(points), _growth(transform, points)
    spots = moving.um[in_tissue(moving)]
    placed = transform.apply(spots)
    landed = there.contains(placed)
    apart = None if back is None else np.linalg.norm(back.apply(placed) - spots, axis=1)
    lattice, floor = lattice_floor(fixed.um[in_tissue(fixed)], fixed.pitch_um) or (None, None)
    found = Quality(
        tissue="spots" if small is None else "slides",
        dice=_dice(moved, np.abs(growth) * grid_um**2, there),
        stain_correlation=None if small is None else _stain_correlation(points, moved, here, there, small),
        consistency_mean_um=None if apart is None else float(apart.mean()),
        consistency_p95_um=None if apart is None else float(np.percentile(apart, 95)),
        folds=int((growth <= 0).sum()),
        grid_points=len(points),
        grid_um=grid_um,
        nearest_um=_nearest(placed[landed], fixed),
        lattice=lattice,
        floor_um=floor,
        landed=float(landed.mean()),
    )
    return replace(found, warnings=tuple(_warnings(found, fixed)))


def _warnings(found: Quality, fixed: Section) -> list[str]:
    warnings = []
    if found.dice < LEAST_DICE:
        warnings.append(f"the tissues overlap by {found.dice:.2f} only: wrong orientation, or much of one is missing")
    if found.folds:
        warnings.append(f"the map folds at {found.folds} points: smooth its displacement")
    limit = float(np.median(spacing(fixed.um)))
    if found.consistency_mean_um is not None and found.consistency_mean_um > limit:
        warnings.append(
            f"there and back misses by {found.consistency_mean_um:.0f} µm, more than a pitch ({limit:.0f} µm): the two"
            " directions found different alignments"
        )
    return warnings


def _grid(tissue: Tissue, um: float) -> tuple[Points, float]:
    """Return points of a square grid on the tissue, (n, 2), and the spacing (enlarged to limit their number)."""
    inside = tissue.points()
    um = max(um, float(np.sqrt(len(inside) * tissue.pixel_um2 / _MOST_POINTS)))
    low, high = inside.min(axis=0), inside.max(axis=0)
    axes = [np.arange(a, b + um, um) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return points[tissue.contains(points)], um


def _growth(transform: Transform, points: Points) -> Points:
    """Return the Jacobian determinant, corrected for mirroring, float64 (n,); not positive where the map folds."""
    x, y = np.array([_STEP_UM, 0]), np.array([0, _STEP_UM])
    along_x, along_y = (transform.apply(points + step) - transform.apply(points - step) for step in (x, y))
    growth = (along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]) / (2 * _STEP_UM) ** 2
    return np.asarray(-growth if transform.mirrors else growth)


def _dice(moved: Points, area: Points, fixed: Tissue) -> float:
    """Return the Dice overlap; each moved point counts with the area that it grew to."""
    both = area[fixed.contains(moved)].sum()
    return float(2 * both / (area.sum() + fixed.mask.sum() * fixed.pixel_um2))


def _stain_correlation(
    points: Points, moved: Points, here: Tissue, there: Tissue, small: tuple[Overview, Overview]
) -> float | None:
    """Return the correlation of haematoxylin at points on tissue of both slides."""
    shared = there.contains(moved)
    if shared.sum() < 3:
        return None
    a, b = (
        _stain_at(tissue, one, places[shared])
        for tissue, one, places in zip((here, there), small, (points, moved), strict=True)
    )
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else None


def _stain_at(tissue: Tissue, small: Overview, um: Points) -> Points:
    """Return haematoxylin at given points, smoothed to the grid spacing, float64 (n,)."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    density = gaussian_filter(haematoxylin(small.pixels).astype(np.float64), GRID_UM / 2 / small.mpp)
    return np.asarray(map_coordinates(density, tissue.to_pixels(um)[:, ::-1].T, order=1, mode="nearest"))


def _nearest(moved: Points, fixed: Section) -> float | None:
    """Return the mean distance of points to the nearest fixed spot, micrometres."""
    from scipy.spatial import cKDTree

    if not len(moved):
        return None
    return float(np.asarray(cKDTree(fixed.um[in_tissue(fixed)]).query(moved, k=1)[0]).mean())
