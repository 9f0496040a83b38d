"""Tiles of a grid, so that memory and time of the refined variant grow no faster than the section (ours)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from stzoo.core.arrays import Indices

CORE, MARGIN = 16.0, 5.0
"""Side of a tile's core, and its margin, in mean distances of measured spots: a tile holds some 700 of them."""
WHOLE = 1500
"""A grid with at most this many measured spots is one tile."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the grid, with the margin around it that its prediction reads.

    Parameters
    ----------
    rows, cols
        (first, last + 1) of the core; cores cover the grid once.
    outer_rows, outer_cols
        The same with the margin, cut at the edge of the grid.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    outer_rows: tuple[int, int]
    outer_cols: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns with the margin."""
        return self.outer_rows[1] - self.outer_rows[0], self.outer_cols[1] - self.outer_cols[0]

    def inside(self, row: Indices, col: Indices) -> Indices:
        """Return which of some places, (n,), lie in the core."""
        return _within(row, col, self.rows, self.cols)

    def around(self, row: Indices, col: Indices) -> Indices:
        """Return which of some places, (n,), lie in the core or the margin."""
        return _within(row, col, self.outer_rows, self.outer_cols)

    def number(self, row: Indices, col: Indices) -> Indices:
        """Return the place of cells within the outer rectangle, row by row, intp (n,)."""
        return (row - self.outer_rows[0]) * self.shape[1] + col - self.outer_cols[0]

    def cells(self) -> tuple[Indices, Indices]:
        """Return row and column of all cells of the outer rectangle, row by row."""
        rows, cols = np.mgrid[slice(*self.outer_rows), slice(*self.outer_cols)]
        return rows.ravel().astype(np.intp), cols.ravel().astype(np.intp)


def cut_tiles(shape: tuple[int, int], measured: int, share: float) -> Iterator[Tile]:
    """Cut a grid into tiles of about as many measured spots each.

    Parameters
    ----------
    shape
        Rows and columns of the grid.
    measured, share
        Number of measured spots, and their share of the occupied places.
    """
    if measured <= WHOLE:
        whole = (0, shape[0]), (0, shape[1])
        yield Tile(*whole, *whole)
        return
    side, margin = (max(1, math.ceil(n / math.sqrt(share))) for n in (CORE, MARGIN))
    spans = [[(first, min(first + side, n)) for first in range(0, n, side)] for n in shape]
    for rows in spans[0]:
        for cols in spans[1]:
            outer = [(max(0, a - margin), min(n, b + margin)) for (a, b), n in zip((rows, cols), shape, strict=True)]
            yield Tile(rows, cols, outer[0], outer[1])


def _within(row: Indices, col: Indices, rows: tuple[int, int], cols: tuple[int, int]) -> Indices:
    return np.flatnonzero((row >= rows[0]) & (row < rows[1]) & (col >= cols[0]) & (col < cols[1]))
