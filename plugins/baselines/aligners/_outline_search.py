"""Lay one piece of tissue upon another by its outline: trimmed ICP from every direction, flips allowed.

Chetverikov et al. 2002, "The Trimmed Iterative Closest Point Algorithm" (doi:10.1109/ICPR.2002.1047997).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial import cKDTree
from stzoo import ConfigError, Progress, Transform
from stzoo.core.arrays import Doubles, Indices

BEST = 6
"""Directions that are tried in full."""
OTHER_DEG = 30.0
"""Turns that are further apart than this, or differ by a flip, are different orientations."""


@dataclass
class SearchConfig:
    """Options of the search.

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

    def check(self, name: str) -> None:
        """Refuse options that have no meaning.

        Raises
        ------
        ConfigError
            With the option, its value and what is expected.
        """
        for key, valid, expected in (
            ("step_deg", 0 < self.step_deg <= 120, "above 0, at most 120"),
            ("overlap", 0.3 <= self.overlap <= 1, "0.3 to 1"),
            ("mask_um", self.mask_um > 0, "above 0"),
            ("iterations", self.iterations >= 1, "at least 1"),
        ):
            if not valid:
                raise ConfigError(
                    f"{key} of '{name}' is {getattr(self, key)}, expected {expected}", todo=f"set {key} anew"
                )


@dataclass(frozen=True, eq=False)
class Shape:
    """A piece of tissue: outline (m, 2), the points of the final fit (n, 2), and its centre (2,); micrometres."""

    outline: Doubles
    points: Doubles
    centre: Doubles


@dataclass(frozen=True, eq=False)
class Placement:
    """Where ICP ended.

    Parameters
    ----------
    score
        Mean distance of the share of points that is fitted (both ways, µm), over its cube: more overlap at the price
        of a little more distance is better (Chetverikov et al., with their lambda = 2). Lower is better.
    matrix
        float64 (2, 3), a turn, perhaps mirrored, and a shift.
    """

    score: float
    matrix: Doubles


@dataclass(frozen=True, eq=False)
class Placements:
    """What a search found, best first.

    Parameters
    ----------
    fine
        The most promising placements, fitted with every share of overlap.
    coarse
        One placement for every start, by outline.
    """

    fine: list[Placement]
    coarse: list[Placement]


def search(source: Shape, target: Shape, config: SearchConfig, progress: Progress | None = None) -> Placements:
    """Try every direction and side."""
    starts = list(_iterate_starts(source.centre, target.centre, config))
    outline = cKDTree(target.outline)
    thin, middle = source.outline[:: max(1, len(source.outline) // 400)], (1 + config.overlap) / 2
    coarse: list[Placement] = []
    for done, start in enumerate(starts, 1):
        coarse.append(_icp(thin, outline, start, middle, config.iterations))
        if progress is not None:
            progress(done, len(starts))
    coarse.sort(key=_score)
    # A part that one section lacks pulls the centres apart, so the best directions start beside them as well.
    reach = np.ptp(target.outline, axis=0).mean() / 6
    beside = []
    for placed, side in product(coarse[:BEST], ((reach, 0), (-reach, 0), (0, reach), (0, -reach))):
        shifted = placed.matrix + np.column_stack([np.zeros((2, 2)), side])
        beside.append(_icp(thin, outline, shifted, config.overlap, config.iterations))
    best = _drop_duplicates(coarse[:BEST] + sorted(beside, key=_score)[:BEST])
    tree, shares = cKDTree(target.points), np.linspace(config.overlap, 1, 5)
    fine = [_icp(source.points, tree, one.matrix, share, config.iterations) for one in best for share in shares]
    return Placements(sorted(fine, key=_score), coarse)


def is_apart(a: Doubles, b: Doubles) -> bool:
    """Say whether two matrices (2, 3) are different orientations."""
    # 2 sin(angle / 2) for two turns, 2 for a flip
    return bool(np.linalg.norm(a[:, :2] - b[:, :2], ord=2) > 2 * np.sin(np.deg2rad(OTHER_DEG / 2)))


def _iterate_starts(source: Doubles, target: Doubles, config: SearchConfig) -> Iterator[Doubles]:
    """Yield one matrix (2, 3) a direction and side, each laying one centre of the tissue upon the other."""
    for flip in (False, True) if config.flips else (False,):
        for angle in np.arange(0, 360, config.step_deg):
            yield Transform.rigid(float(angle), tuple(target - source), flip=flip, centre=tuple(source)).matrix


def _icp(source: Doubles, target: cKDTree, matrix: Doubles, share: float, iterations: int) -> Placement:
    """Return where ICP ends, when a share of the points is fitted."""
    turn, shift = matrix[:, :2], matrix[:, 2]
    side = np.sign(np.linalg.det(turn))
    kept = max(3, int(share * len(source)))
    for _ in range(iterations):
        distance, nearest = _find_nearest(target, source @ turn.T + shift)
        near = np.argpartition(distance, kept - 1)[:kept]
        better, moved = _fit_rigid(source[near], target.data[nearest[near]], side)
        still = np.abs(better - turn).max() < 1e-7 and np.abs(moved - shift).max() < 1e-3
        turn, shift = better, moved
        if still:
            break
    placed = source @ turn.T + shift
    there, back = _find_nearest(target, placed)[0], _find_nearest(cKDTree(placed), target.data)[0]
    score = (_trim_mean(there, share) + _trim_mean(back, share)) / 2
    return Placement(score / share**3, np.column_stack([turn, shift]))


def _score(found: Placement) -> float:
    return found.score


def _drop_duplicates(found: list[Placement]) -> list[Placement]:
    """Leave out matrices that ICP reached from several starts."""
    kept: list[Placement] = []
    for one in found:
        if not any(np.abs(one.matrix - other.matrix).max() < 1e-3 for other in kept):
            kept.append(one)
    return kept


def _find_nearest(tree: cKDTree, points: Doubles) -> tuple[Doubles, Indices]:
    """Return the distance and the index of the nearest point of the tree, (n,) each."""
    distance, index = tree.query(points, k=[1])
    return np.asarray(distance)[:, 0], np.asarray(index)[:, 0]


def _trim_mean(distance: Doubles, share: float) -> float:
    return float(np.sort(distance)[: max(3, int(share * len(distance)))].mean())


def _fit_rigid(source: Doubles, target: Doubles, side: float) -> tuple[Doubles, Doubles]:
    """Return the turn (with a mirror where ``side`` is -1) and shift of least squares (Kabsch 1976)."""
    middle, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, v = np.linalg.svd((target - goal).T @ (source - middle))
    turn = u @ np.diag([1.0, side * np.sign(np.linalg.det(u @ v))]) @ v
    return turn, goal - turn @ middle
