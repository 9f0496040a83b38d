"""Sampling design: which spots to measure on a limited budget, chosen from positions only, never from counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Mask, Points
from stzoo.core.data.sampling_rules import lattice_columns
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UsageError
from stzoo.core.runtime.outputs import writing

EXACT = 0.01
"""A share this close (relative) to 1/s² is one phase of stride s."""
COVERED = 0.5
"""Tolerance (relative) of a phase's share of the spots; small and torn sections deviate."""


@dataclass(frozen=True)
class Design:
    """A sampling design: the spots to measure.

    Parameters
    ----------
    chosen
        bool (n,), true for the spots to measure.
    how
        Description of how they were chosen.
    """

    chosen: Mask
    how: str


def design(section: Section, share: float = 0.25, *, seed: int = 0) -> Design:
    """Choose which spots of a section to measure; counts are not read, so it works before any exist.

    On a lattice (``array_row``, ``array_col``) a share of 1/s² is one phase of stride s: 0.25 is every second row and
    column; of the s² phases, the one with most spots. On a hexagonal lattice (Visium, where row + column is
    always even) the columns of a row are numbered consecutively. Other shares, and spots without a lattice, use
    farthest-point sampling (Gonzalez 1985): each spot as far as possible from those chosen before.

    Parameters
    ----------
    share
        Share of the spots, in (0, 1]. Exact with farthest-point sampling (at least one spot), approximate on a lattice.
    seed
        Seed of the first spot of farthest-point sampling. The result does not depend on the order of the spots.

    Raises
    ------
    UsageError
        The share is not in (0, 1].
    DataError
        The section has no spots, or no positions of either kind.
    """
    if not 0 < share <= 1:
        raise UsageError(f"the share is {share!r}, expected more than 0 and at most 1", todo="e.g. --share 0.25")
    if section.n_spots == 0:
        raise DataError(f"section '{section.name}' has no spot", where=section.source or None)
    stride = round(share**-0.5)
    lattice = None if abs(share * stride**2 - 1) > EXACT else lattice_places(section)
    if lattice is not None:
        found = _phase(lattice, stride)
        if abs(found.chosen.mean() * stride**2 - 1) <= COVERED:
            return found
    count = max(1, round(share * section.n_spots))
    chosen = np.zeros(section.n_spots, dtype=bool)
    chosen[farthest_points(_places(section), count, seed=seed)] = True
    return Design(chosen, "an even spread, each spot as far as possible from the others")


def lattice_places(section: Section) -> npt.NDArray[np.int64] | None:
    """Return row and column of each spot, int64 (n, 2), columns of a hexagonal lattice halved; None without a lattice.

    There is no lattice without ``array_row`` and ``array_col``, or if these are not integers.
    """
    if not {"array_row", "array_col"} <= set(section.adata.obs):
        return None
    places = section.adata.obs[["array_row", "array_col"]].to_numpy(np.float64)
    if not (np.isfinite(places).all() and (places == np.rint(places)).all()):
        return None
    whole: npt.NDArray[np.int64] = places.astype(np.int64)
    whole[:, 1] = lattice_columns(*whole.T)
    return whole


def farthest_points(points: Points, count: int, *, seed: int = 0) -> npt.NDArray[np.intp]:
    """Return indices of farthest-point sampling, in order of selection, intp (count,).

    Each point is the farthest from those before; ties go to the smallest x, then y. Only neighbours of a new point are
    updated: O(n log n) in total, plus one pass over n numbers per selected point.

    Parameters
    ----------
    points
        float64 (n, 2).
    seed
        Seed of the first point.
    """
    from scipy.spatial import cKDTree

    order = np.lexsort((points[:, 1], points[:, 0]))
    points = points[order]
    tree = cKDTree(points)
    distance = np.full(len(points), np.inf)
    chosen = np.empty(min(count, len(points)), dtype=np.intp)
    newest = int(np.random.default_rng(seed).integers(len(points)))
    for i in range(len(chosen)):
        reach = distance.max()
        near = (
            np.asarray(tree.query_ball_point(points[newest], reach)) if np.isfinite(reach) else np.arange(len(points))
        )
        away = np.linalg.norm(points[near] - points[newest], axis=1)
        distance[near] = np.minimum(distance[near], away)
        distance[newest] = -1.0  # never chosen again, even if another spot has the same position
        chosen[i] = newest
        newest = int(distance.argmax())
    return order[chosen]


def write_barcodes(section: Section, chosen: Mask, path: Path, *, overwrite: bool = False) -> Path:
    """Write the barcodes of some spots, one per line, as read by the rule ``file:PATH``.

    Raises
    ------
    OutputError
        The output exists or cannot be written.
    """
    with writing(path, overwrite=overwrite) as scratch:
        scratch.write_text("".join(f"{name}\n" for name in _names(section, chosen)), encoding="utf-8")
    return path


def _names(section: Section, chosen: Mask) -> Sequence[str]:
    return [str(name) for name in section.adata.obs_names[chosen]]


def _phase(lattice: npt.NDArray[np.int64], stride: int) -> Design:
    phases, member, sizes = np.unique(lattice % stride, axis=0, return_inverse=True, return_counts=True)
    best = int(sizes.argmax())
    row, column = phases[best].tolist()
    chosen: Mask = member.ravel() == best
    return Design(chosen, f"one phase of stride {stride} of the lattice (rows from {row}, columns from {column})")


def _places(section: Section) -> Points:
    known = "spatial_um" in section.adata.obsm or section.mpp is not None
    return section.um if known else section.pixels
