"""Weighted means over near measured spots: what ``knn`` and ``smooth`` share.

Time and memory grow with spots x neighbours, never with spots x spots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from stzoo import BlockShare, Filled, FilledPart, Ranks, Section
from stzoo.core.arrays import Doubles, Floats, Indices, Points
from stzoo.core.data.sampling import informative
from stzoo.core.gp import spacing
from stzoo.core.metrics import per_gene_pcc

HELD_OUT = 4000
"""Measured spots (at most) on which leave-one-out scores are taken."""


@dataclass(frozen=True)
class Surroundings:
    """The measured spots of one section, in an order that does not depend on the order they came in.

    Parameters
    ----------
    positions
        float64 (n, 2), micrometres.
    values
        float32 (n, g), log-normalised expression.
    """

    positions: Points
    values: Floats

    @classmethod
    def of(cls, section: Section, values: Floats) -> Surroundings:
        """Take the informative measured spots of a section, sorted by x and y."""
        seen = np.flatnonzero(informative(section))
        um = section.um[seen]
        order = np.lexsort((um[:, 1], um[:, 0]))
        return cls(um[order], values[seen[order]])

    @cached_property
    def tree(self) -> cKDTree:
        """Index for nearest-neighbour queries."""
        return cKDTree(self.positions)

    def spacing(self) -> float:
        """Return the median distance between nearest measured spots, µm (1 for a single spot)."""
        return spacing(self.positions)

    def find_near(self, points: Points, count: int) -> tuple[Doubles, Indices]:
        """Return distances (m, k) and indices (m, k) of the nearest measured spots, k = min(count, n)."""
        count = min(count, len(self.positions))
        distance, index = self.tree.query(points, k=np.arange(1, count + 1))
        return np.asarray(distance, dtype=np.float64), np.asarray(index, dtype=np.intp)

    def leave_out(self, count: int) -> tuple[Indices, Doubles, Indices]:
        """Return measured spots to leave out, with distances and indices of their neighbours, themselves excluded."""
        n = len(self.positions)
        left_out = np.unique(np.linspace(0, n - 1, min(n, HELD_OUT)).astype(np.intp))
        distance, index = self.find_near(self.positions[left_out], count + 1)
        self_at = (index == left_out[:, None]).argmax(axis=1)
        self_at[~(index == left_out[:, None]).any(axis=1)] = index.shape[1] - 1  # crowded out by spots at its place
        keep = np.ones(index.shape, dtype=bool)
        keep[np.arange(len(index)), self_at] = False
        shape = (len(index), index.shape[1] - 1)
        return left_out, distance[keep].reshape(shape), index[keep].reshape(shape)

    def mean(self, weights: Doubles, index: Indices) -> Floats:
        """Return the weighted mean of the neighbours' values, float32 (m, g); ``weights`` (m, k) need not add to 1."""
        m, k = weights.shape
        share = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        rows = csr_array((share.ravel(), index.ravel(), np.arange(m + 1) * k), shape=(m, len(self.positions)))
        return np.asarray(rows @ self.values, dtype=np.float32)

    def score_guess(self, guessed: Floats, left_out: Indices) -> Floats:
        """Return the share of each gene's variance that a guess of left-out measured spots explains, float32 (g,).

        The squared correlation, 0 where it is negative or undefined.
        """
        found = np.clip(np.nan_to_num(per_gene_pcc(self.values[left_out], guessed)), 0, 1) ** 2
        return np.asarray(found, dtype=np.float32)

    def trust(self, points: Points, explained: Floats) -> Floats:
        """Return a confidence in [0, 1], float32 (m, g).

        The result of :meth:`score_guess`, times spacing / (spacing + distance) for the distance to the nearest measured
        spot.
        """
        distance = self.find_near(points, 1)[0][:, 0]
        spacing = self.spacing()
        reach = spacing / (spacing + distance)
        return np.asarray(reach[:, None] * explained, dtype=np.float32)


def fill_around(
    number: int,
    section: Section,
    seen: Surroundings,
    count: int,
    weights: Callable[[Doubles], Doubles],
    ranks: Ranks,
) -> Iterator[FilledPart]:
    """Fill a section by weighted means of the nearest measured spots; confidence as :meth:`Surroundings.trust` has it.

    Parameters
    ----------
    number, section, seen
        Index of the section, itself, and its measured spots.
    count
        Measured spots that a spot is guessed from.
    weights
        From distances (m, k), µm, to weights (m, k).
    ranks
        The processes that share the spots.
    """
    um, explained = section.um, np.zeros(seen.values.shape[1], dtype=np.float32)
    if len(seen.positions) > 1:
        left_out, distance, index = seen.leave_out(count)
        explained = seen.score_guess(seen.mean(weights(distance), index), left_out)
    for rows in BlockShare(len(um), ranks).blocks:
        distance, index = seen.find_near(um[rows], count)
        yield FilledPart(number, rows, Filled(seen.mean(weights(distance), index), seen.trust(um[rows], explained)))
