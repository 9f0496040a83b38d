"""Blocks of spots: what keeps kriging from needing spots x spots of memory on big sections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree
from stzoo.core.arrays import Indices, Points

FIT_SPOTS, FIT_BLOCKS = 1000, 4
"""The likelihood is taken on at most this many blocks of at most this many measured spots."""


def halves(points: Points, most: int) -> Iterator[Indices]:
    """Split points along their longer side at the median until no part holds more than ``most``.

    Yields
    ------
    Indices of each part; every point is in one of them.
    """
    waiting: list[Indices] = [np.arange(len(points))]
    while waiting:
        part = waiting.pop()
        if len(part) <= most:
            yield part
            continue
        axis = int(np.ptp(points[part], axis=0).argmax())
        order = part[np.argsort(points[part, axis], kind="stable")]
        waiting += [order[len(order) // 2 :], order[: len(order) // 2]]


def fit_blocks(points: Points) -> list[Indices]:
    """Return the blocks of measured spots that kernels are chosen on: FIT_BLOCKS of FIT_SPOTS spots at most."""
    return spread_out(list(halves(points, FIT_SPOTS)), FIT_BLOCKS)


def spacing(points: Points) -> float:
    """Return the median distance of points, (n, 2), to their nearest other point, 1 where there is none."""
    if len(points) < 2:
        return 1.0
    nearest = np.asarray(cKDTree(points).query(points, k=[2])[0])[:, 0]
    distinct = nearest[nearest > 0]
    return float(np.median(distinct)) if distinct.size else 1.0


def spread_out(parts: list[Indices], most: int) -> list[Indices]:
    """Return at most ``most`` of the parts, evenly over their order (neighbours in space are neighbours in it)."""
    if len(parts) <= most:
        return parts
    return [parts[i] for i in np.linspace(0, len(parts) - 1, most).round().astype(int)]


def surroundings(tree: cKDTree, points: Points, count: int) -> Indices:
    """Return the ``count`` indexed points nearest to the bounding box of some points, in ascending order.

    Distances to a box are not distances to a point, so candidates come from a ball that is sure to hold them all: the
    ``count`` spots nearest to the centre reach no farther from the box than from the centre.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    centre, corner = (low + high) / 2, float(np.linalg.norm(high - low) / 2)
    count = min(count, tree.n)
    reach = float(np.atleast_1d(tree.query(centre, k=[count])[0])[0])
    found = np.sort(np.asarray(tree.query_ball_point(centre, 1.0001 * (reach + corner)), dtype=np.intp))
    data = np.asarray(tree.data)[found]
    outside = np.linalg.norm(np.maximum(np.maximum(low - data, data - high), 0.0), axis=1)
    return np.sort(found[np.argsort(outside, kind="stable")[:count]])
