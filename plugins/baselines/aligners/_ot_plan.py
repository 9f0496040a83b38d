"""The transport plan of aligner ``ot``: partial fused Gromov-Wasserstein, by POT, on thinned sections.

Fused Gromov-Wasserstein: Vayer (Titouan) et al. 2019; for sections of tissue: PASTE, Zeira et al. 2022; of which only a
part overlaps: PASTE2, Liu et al. 2023. The solver is POT's. Thinning and lifting back are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from stzoo import DataError, PluginError
from stzoo.core.arrays import Doubles, Indices
from stzoo.core.workflows.design import farthest_points
from stzoo.plugins.baselines.aligners._ot_features import Cloud

BYTES_PER_PAIR = 220
"""Peak bytes of POT's solver per pair of thinned spots, measured (with its linear program), rounded up."""
_MOST_STEPS = 2_000_000  # POT stops by its tolerance; this limits the steps of each linear program as well
_LIFTED = 4


@dataclass(frozen=True)
class SpotGroups:
    """Groups of neighbouring spots: mean place and expression, share of the spots, and the group of each spot."""

    points: Doubles
    values: Doubles
    weights: Doubles
    group: Indices

    def __len__(self) -> int:
        return len(self.points)


def import_solver() -> Any:
    """Return POT.

    Raises
    ------
    PluginError
        It is not installed.
    """
    try:
        return import_module("ot")
    except ImportError as error:
        raise PluginError(
            "'ot' needs the package POT, which is not installed", todo="pip install 'stzoo[ot]'"
        ) from error


def estimate_bytes(moving: int, fixed: int) -> int:
    """Return the memory that a plan between so many groups takes, bytes."""
    return BYTES_PER_PAIR * moving * fixed


def check_memory(moving: int, fixed: int, limit_gib: float) -> None:
    """Refuse a plan that would take more memory than allowed, before any of it is taken.

    Raises
    ------
    DataError
        With what would be needed.
    """
    needed = estimate_bytes(moving, fixed) / 2**30
    if needed > limit_gib:
        raise DataError(
            f"a plan of {moving} x {fixed} spots needs about {needed:.3g} GiB, and memory_gib is {limit_gib:.3g}",
            where="config of 'ot'",
            todo="give more with memory_gib, or thin more with spots",
        )


def thin(cloud: Cloud, count: int) -> SpotGroups:
    """Join the spots into at most ``count`` groups around evenly spread spots.

    A group has the mean place and the mean expression of its spots, so what is thinned is less noisy, not less seen.
    """
    centres = cloud.points[farthest_points(cloud.points, min(count, len(cloud)))]
    group = np.asarray(cKDTree(centres).query(cloud.points)[1], dtype=np.intp)
    size = np.bincount(group, minlength=len(centres)).astype(np.float64)
    member = csr_array((1 / size[group], (group, np.arange(len(cloud)))), shape=(len(centres), len(cloud)))
    return SpotGroups(np.asarray(member @ cloud.points), np.asarray(member @ cloud.values), size / len(cloud), group)


def match_groups(
    moving: SpotGroups, fixed: SpotGroups, matrix: Doubles, *, areas: tuple[float, float], share: float, alpha: float
) -> Doubles:
    """Match the groups of two sections.

    Parameters
    ----------
    matrix
        float64 (2, 3), transform that the solver starts from.
    areas
        Area of tissue of each section: how much mass each has.
    share
        Share of the smaller mass that is matched.
    alpha
        Weight of the distances within the sections against the unlikeness of expression (1 - cosine).

    Returns
    -------
    float64 (groups of moving, groups of fixed), in units of the larger mass.
    """
    ot = import_solver()
    most = max(areas)
    masses = moving.weights * areas[0] / most, fixed.weights * areas[1] / most
    moved = share * min(areas) / most
    extent = float(np.ptp(fixed.points, axis=0).max())
    inner = cdist(moving.points, moving.points) / extent, cdist(fixed.points, fixed.points) / extent
    unlike = cdist(moving.values, fixed.values, "cosine")
    apart = cdist(moving.points @ matrix[:, :2].T + matrix[:, 2], fixed.points, "sqeuclidean") / extent**2
    start = ot.partial.partial_wasserstein(*masses, apart, m=moved, numItermax=_MOST_STEPS)
    found = ot.gromov.partial_fused_gromov_wasserstein(
        unlike, *inner, *masses, m=moved, alpha=alpha, G0=start * (1 - 1e-9), symmetric=True,
        numItermax=_MOST_STEPS, tol=1e-5,
    )  # fmt: skip
    return np.asarray(found, dtype=np.float64)


def fit_procrustes(moving: Doubles, fixed: Doubles, weights: Doubles, *, side: float) -> Doubles:
    """Return the turn (with a mirror where ``side`` is -1) and shift of least squares over soft matches, (2, 3).

    Kabsch 1976, weighted; PASTE makes a plan a transform in the same way, without the mirror.
    """
    share = weights / weights.sum()
    middle, goal = share.sum(axis=1) @ moving, share.sum(axis=0) @ fixed
    u, _, v = np.linalg.svd((fixed - goal).T @ share.T @ (moving - middle))
    turn = u @ np.diag([1.0, side * np.linalg.det(u @ v)]) @ v
    return np.column_stack([turn, goal - turn @ middle])


def lift(
    found: Doubles, groups: tuple[SpotGroups, SpotGroups], places: tuple[Doubles, Doubles], *, width: float
) -> csr_array:
    """Share the mass of matched groups among their spots.

    Within a pair of groups, laid centre upon centre, a spot of the moving group gives to the few spots of the fixed
    group that lie nearest, by a Gaussian of their distance; every spot of a group gives the same.

    Parameters
    ----------
    found
        float64 (groups, groups), a plan.
    places
        Places of all spots that were thinned, in the frame of the fixed section, float64 (n, 2) and (m, 2).
    width
        Width of the Gaussian, micrometres.

    Returns
    -------
    Sparse (n, m) with the mass of ``found``.
    """
    members = [np.split(np.argsort(g.group, kind="stable"), np.cumsum(np.bincount(g.group))[:-1]) for g in groups]
    rows, columns, mass = [], [], []
    for a, b in np.argwhere(found > 0):
        here, there = members[0][a], members[1][b]
        ours, theirs = places[0][here], places[1][there]
        square = cdist(ours - ours.mean(axis=0), theirs - theirs.mean(axis=0), "sqeuclidean")
        few = np.argsort(square, axis=1, kind="stable")[:, :_LIFTED]
        near = np.take_along_axis(square, few, axis=1)
        weight = np.exp((near[:, :1] - near) / (2 * width**2))
        weight *= found[a, b] / len(here) / weight.sum(axis=1, keepdims=True)
        rows.append(np.repeat(here, few.shape[1]))
        columns.append(there[few].ravel())
        mass.append(weight.ravel())
    shape = (len(places[0]), len(places[1]))
    return coo_array((np.concatenate(mass), (np.concatenate(rows), np.concatenate(columns))), shape=shape).tocsr()
