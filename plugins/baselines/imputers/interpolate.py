"""Interpolation between measured spots: the nearest one, linear, cubic. Grid-aligned: a sample sits at its own spot.

What image libraries do by default (samples at the centres of blocks) shifts the map by half a dense pixel, and makes
these baselines look worse than they are (defect D3 of our specification of S2S-ST).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CloughTocher2DInterpolator, LinearNDInterpolator, make_interp_spline
from scipy.ndimage import distance_transform_edt
from scipy.spatial import QhullError
from stzoo import Filled, FilledPart, PartImputer, Progress, Ranks, Section, Stack
from stzoo.core.arrays import Doubles, Floats, Indices, Mask, Points
from stzoo.core.data.sampling import informative
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.baselines.imputers._nearby import Surroundings

SEEN_NODES = 0.75
"""Measured spots are a lattice when they are at least this share of all spots that sit on its nodes."""
HOLD_OUT = 5
"""One measured spot in so many is left out and guessed from the others, for the confidence."""
GENES = 256
"""Genes filled at a time."""
VALUES = 2**25
"""Values of dense maps held at a time: genes beyond are done in turns."""


@dataclass
class NearestConfig:
    """Nothing to choose."""


@dataclass
class BilinearConfig:
    """Nothing to choose."""


@dataclass
class BicubicConfig:
    """Nothing to choose."""


@dataclass(frozen=True)
class NodeLattice:
    """The regular lattice that measured spots are nodes of.

    Parameters
    ----------
    at
        float64 (n, 2): row and column of every spot of the section, in steps of the lattice, first node (0, 0).
    node
        intp (m, 2): row and column of each measured spot.
    shape
        Rows and columns of nodes.
    """

    at: Points
    node: Indices
    shape: tuple[int, int]

    @classmethod
    def of(cls, section: Section, seen: Mask) -> NodeLattice | None:
        """Find the lattice of the measured spots, in ``array_row`` and ``array_col``; None where there is none."""
        array = _read_array(section)
        if array is None:
            return None
        low, given = array[seen].min(axis=0), array[seen]
        step = np.array([max(int(np.gcd.reduce(axis)), 1) for axis in (given - low).T])
        at = (array - low) / step
        node = np.asarray((given - low) // step, dtype=np.intp)
        rows, columns = (node.max(axis=0) + 1).tolist()
        on = ((array - low) % step == 0).all(axis=1) & (at >= 0).all(axis=1) & (at < (rows, columns)).all(axis=1)
        distinct = len(np.unique(node, axis=0)) == len(node)
        return cls(at, node, (rows, columns)) if distinct and len(node) >= SEEN_NODES * on.sum() else None

    def interpolate(self, values: Floats, degree: int) -> Floats:
        """Return an interpolating spline of the measured values, at every spot.

        Parameters
        ----------
        values
            float32 (m, g), at the nodes. Nodes without a value (holes of the tissue) take the one of the nearest node,
            in steps of the lattice.
        degree
            1 (bilinear) or 3 (bicubic); lower where there are fewer nodes in a row or column.

        Returns
        -------
        float32 (n, g). Beyond the outermost nodes the edge goes on as it is.
        """
        known = np.zeros(self.shape, dtype=bool)
        known[tuple(self.node.T)] = True
        fill: Any = distance_transform_edt(~known, return_distances=False, return_indices=True)
        order = np.empty(self.shape, dtype=np.intp)
        order[tuple(self.node.T)] = np.arange(len(self.node))
        source = order[tuple(fill)]  # (rows, columns): whose value a node takes
        inside = np.clip(self.at, 0, np.array(self.shape) - 1)
        row, at_row = np.unique(inside[:, 0], return_inverse=True)
        column, at_column = np.unique(inside[:, 1], return_inverse=True)
        out = np.empty((len(inside), values.shape[1]), dtype=np.float32)
        some = max(1, VALUES // max(len(row) * len(column), 1))
        for start in range(0, values.shape[1], some):
            part = np.s_[start : start + some]
            dense = _spline(_spline(values[:, part][source], row, degree, axis=0), column, degree, axis=1)
            out[:, part] = dense[at_row, at_column]
        return out


def _read_array(section: Section) -> npt.NDArray[np.int64] | None:
    """Return array row and column of every spot, int64 (n, 2); None where a spot has none."""
    if not {"array_row", "array_col"} <= set(section.adata.obs):
        return None
    array = section.adata.obs[["array_row", "array_col"]].to_numpy(np.float64)
    whole = bool(np.isfinite(array).all() and (array == np.rint(array)).all())
    return array.astype(np.int64) if whole else None


def _spline(values: Any, at: Doubles, degree: int, *, axis: int) -> Any:
    """Return an interpolating spline along one axis (nodes 0, 1, 2 ...), at other places."""
    count = values.shape[axis]
    if count == 1:
        return np.repeat(values, len(at), axis=axis)
    return make_interp_spline(np.arange(count), values, k=min(degree, count - 1), axis=axis)(at)


def interpolate_scattered(seen: Surroundings, points: Points, degree: int) -> Floats:
    """Return what a triangulation of measured spots says at other places, float32 (n, g).

    Parameters
    ----------
    degree
        0: the nearest measured spot; 1: linear; 3: cubic (Clough and Tocher), both inside the hull of the measured
        spots. Outside, and where there is no triangle (a line of spots), the nearest.
    """
    index = seen.find_near(points, 1)[1][:, 0]
    out = np.array(seen.values[index], dtype=np.float32)
    if degree == 0 or seen.values.shape[1] == 0:
        return out
    triangulated: Any = LinearNDInterpolator if degree == 1 else CloughTocher2DInterpolator
    try:
        found = triangulated(seen.positions, seen.values.astype(np.float64))(points)
    except (QhullError, ValueError):  # fewer than three spots, or all on one line
        return out
    return np.where(np.isfinite(found), found, out).astype(np.float32)


class _Interpolating(PartImputer):
    """Interpolates each gene of each section by itself; see the subclasses for the degree.

    Where the measured spots are a lattice (one phase of a stride), splines over its rows and columns; elsewhere
    (random spots) a triangulation, with the nearest spot outside the hull. No value below the lowest measured one
    (or 0, if that is higher). Confidence as :meth:`Surroundings.trust` has it: one measured spot in five is left out
    and guessed from the others by triangulation.
    """

    degree: ClassVar[int]

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill some genes at a time (see :class:`Imputer`): no gene knows of another."""
        for number, (section, given) in enumerate(zip(stack.sections, values, strict=True)):
            starts = range(0, given.shape[1], GENES)
            for block in ranks.my_jobs(len(starts)):
                genes = slice(starts[block], min(starts[block] + GENES, given.shape[1]))
                yield FilledPart(number, slice(None), self._fill(section, given[:, genes]), genes)

    def _fill(self, section: Section, values: Floats) -> Filled:
        known, um = informative(section), section.um
        seen = Surroundings.of(section, values)
        lattice = NodeLattice.of(section, known) if self.degree else None
        out = (
            interpolate_scattered(seen, um, self.degree)
            if lattice is None
            else lattice.interpolate(values[known], self.degree)
        )
        out = np.maximum(out, np.minimum(seen.values.min(axis=0), 0))
        return Filled(out, seen.trust(um, self._score_left_out(seen)))

    def _score_left_out(self, seen: Surroundings) -> Floats:
        count = len(seen.positions)
        if count < 2:
            return np.zeros(seen.values.shape[1], dtype=np.float32)
        left_out = np.arange(0, count, HOLD_OUT)
        rest = np.setdiff1d(np.arange(count), left_out)
        others = Surroundings(seen.positions[rest], seen.values[rest])
        return seen.score_guess(interpolate_scattered(others, seen.positions[left_out], self.degree), left_out)


class Nearest(_Interpolating):
    """The value of the nearest measured spot; of several equally near ones, always the same one."""

    name = "nearest"
    config_class = NearestConfig
    degree = 0


class Bilinear(_Interpolating):
    """Linear between the measured rows and columns, grid-aligned; without a lattice, linear on triangles."""

    name = "bilinear"
    config_class = BilinearConfig
    degree = 1


class Bicubic(_Interpolating):
    """A cubic spline through the measured values, grid-aligned; without a lattice, Clough and Tocher's on triangles."""

    name = "bicubic"
    config_class = BicubicConfig
    degree = 3
