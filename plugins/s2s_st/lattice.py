"""Rasterisation: spots of a section as pixels of a rectangular grid, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from stzoo import DataError, Section
from stzoo.core.arrays import Doubles, Floats, Indices, Mask, Points

Phase = tuple[int, int]

STRIDES = (2, 3, 4)
"""Strides that are looked for (the paper's code has 2; 3 and 4 are specification A4, ours)."""

TOLERANCE = 0.25
"""How far a coordinate may lie off its lattice line, in pitches (ours)."""


@dataclass(frozen=True)
class Lattice:
    """The grid that the spots of a section lie on.

    Parameters
    ----------
    shape
        Rows and columns of the grid.
    row, col
        intp (n,), the place of each spot, from 0.
    occupied
        bool (h, w), where there is a spot, measured or not.
    kind
        ``hexagonal`` where the array columns were halved (Visium), else ``square``.
    """

    shape: tuple[int, int]
    row: Indices
    col: Indices
    occupied: Mask
    kind: Literal["square", "hexagonal"]

    @classmethod
    def of(cls, section: Section) -> Lattice:
        """Find the lattice of a section.

        Array coordinates are taken where ``obs`` has ``array_row`` and ``array_col``, else the ranks of the positions
        in µm. Visium's hexagonal array (row + column always even, or always odd) becomes rectangular by halving the
        columns (specification A10, our reading): neighbours in a row stay neighbours, every second row moves by half
        a pitch, and no spot is lost. Counts are not read.

        Raises
        ------
        DataError
            The spots lie on no regular lattice, or two of them share a place.
        UnitsError
            There are no array coordinates, and distances are unknown.
        """
        if {"array_row", "array_col"} <= set(section.adata.obs.columns):
            row, col = _read_array(section, "array_row"), _read_array(section, "array_col")
        else:
            row, col = _rank_positions(section)
        if not len(row):
            raise DataError(f"section '{section.name}' has no spot", where=section.source or None)
        hexagonal = _is_hexagonal(row, col)
        if hexagonal:
            col = col // 2
        row, col = row - row.min(), col - col.min()
        shape = int(row.max()) + 1, int(col.max()) + 1
        _refuse_shared_places(section, row, col, shape)
        occupied = np.zeros(shape, dtype=bool)
        occupied[row, col] = True
        return cls(shape, row, col, occupied, "hexagonal" if hexagonal else "square")

    def to_grid(self, values: Floats) -> Floats:
        """Lay values of the spots, (n, g), onto the grid: float32 (g, h, w), NaN where there is no spot."""
        grid = np.full((values.shape[1], *self.shape), np.nan, dtype=np.float32)
        grid[:, self.row, self.col] = values.T
        return grid

    def from_grid(self, grid: Floats) -> Floats:
        """Read the spots from a grid, (g, h, w): float32 (n, g). The inverse of :meth:`to_grid`, to the bit."""
        return np.ascontiguousarray(grid[:, self.row, self.col].T, dtype=np.float32)

    def mask(self, spots: Mask) -> Mask:
        """Lay a mask of the spots, bool (n,), onto the grid: bool (h, w), False where there is no spot."""
        grid = np.zeros(self.shape, dtype=bool)
        grid[self.row, self.col] = spots
        return grid


def find_stride_and_phase(occupied: Mask, measured: Mask) -> tuple[int, Phase] | None:
    """Find the sub-lattice that was measured.

    Parameters
    ----------
    occupied, measured
        bool (h, w): the places with a spot, and those of them that were measured.

    Returns
    -------
    The smallest stride s of :data:`STRIDES` and the phase (a, b), where the measured places are exactly the occupied
    places of rows a, a + s, ... and columns b, b + s, ...; None where they are no such sub-lattice, or all places.
    """
    rows, cols = np.nonzero(measured)
    if not len(rows) or np.array_equal(occupied, measured):
        return None
    for stride in STRIDES:
        a, b = int(rows[0]) % stride, int(cols[0]) % stride
        kept = np.zeros_like(occupied)
        kept[a::stride, b::stride] = occupied[a::stride, b::stride]
        if np.array_equal(kept, measured):
            return stride, (a, b)
    return None


def _read_array(section: Section, column: str) -> Indices:
    try:
        values = np.asarray(section.adata.obs[column], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"obs['{column}'] of section '{section.name}' is not numbers") from error
    if not (np.isfinite(values).all() and np.array_equal(values, np.rint(values))):
        raise DataError(
            f"obs['{column}'] of section '{section.name}' is not whole numbers",
            where=section.source or None,
            todo="correct the column, or remove it to use positions in µm",
        )
    return values.astype(np.intp)


def _is_hexagonal(row: Indices, col: Indices) -> bool:
    """Say whether row + column has one parity everywhere, while rows of both parities exist.

    A square lattice of which only every second row and column is there has one parity too, but one of rows as well.
    """
    return len(np.unique((row + col) % 2)) == 1 and len(np.unique(row % 2)) == 2


def _rank_positions(section: Section) -> tuple[Indices, Indices]:
    um = section.um
    pitch = section.pitch_um or _measure_pitch(um)
    if pitch is None:
        raise _no_lattice(section, "positions that coincide, or a single spot")
    return _rank(section, um[:, 1], pitch, "y"), _rank(section, um[:, 0], pitch, "x")


def _measure_pitch(um: Points) -> float | None:
    """Return the median distance of a spot to its nearest neighbour in µm, None where that is 0 or unknown."""
    from scipy.spatial import cKDTree

    if len(um) < 2 or not np.isfinite(um).all():
        return None
    distances = np.asarray(cKDTree(um).query(um, k=2)[0])  # (n, 2): to itself, to the nearest other
    distance = float(np.median(distances[:, 1]))
    return distance if distance > 0 else None


def _rank(section: Section, at: Doubles, pitch: float, axis: str) -> Indices:
    """Return the number of the lattice line of each coordinate (n,), counted by gaps, so that drift adds nothing up."""
    order = np.argsort(at, kind="stable")
    gaps = np.diff(at[order])
    line = np.concatenate([[0], np.cumsum(gaps > pitch / 2)])  # of each spot, in order
    n = np.bincount(line)
    centre = np.bincount(line, weights=at[order]) / n
    if np.abs(at[order] - centre[line]).max() > TOLERANCE * pitch:
        raise _no_lattice(section, f"{axis} does not fall into lines {pitch:g} µm apart")
    steps = np.diff(centre) / pitch
    if steps.size and np.abs(steps - np.rint(steps)).max() > TOLERANCE:
        raise _no_lattice(section, f"lines of {axis} are not whole multiples of {pitch:g} µm apart")
    number = np.concatenate([[0], np.cumsum(np.rint(steps))]).astype(np.intp)
    ranks = np.empty(len(at), dtype=np.intp)
    ranks[order] = number[line]
    return ranks


def _no_lattice(section: Section, why: str) -> DataError:
    return DataError(
        f"the spots of section '{section.name}' lie on no regular lattice: {why}",
        where=section.source or None,
        todo="bin the cells: --bin-um 100; or give obs['array_row'] and obs['array_col']",
    )


def _refuse_shared_places(section: Section, row: Indices, col: Indices, shape: tuple[int, int]) -> None:
    place = np.ravel_multi_index((row, col), shape)
    order = np.argsort(place, kind="stable")
    same = np.flatnonzero(np.diff(place[order]) == 0)
    if len(same):
        first, second = (section.adata.obs_names[order[same[0] + i]] for i in (0, 1))
        raise DataError(
            f"spots '{first}' and '{second}' of section '{section.name}' share a place of the lattice",
            where=section.source or None,
            todo="remove one of the two, or bin the cells: --bin-um 100",
        )
