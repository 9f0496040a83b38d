"""Gaussian-weighted means over neighbouring spots, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from stzoo.core.arrays import Points

_PAIRS = 2_000_000
"""Neighbour pairs held in memory at a time."""


class Neighbourhood:
    """The neighbours of every spot of a section.

    Parameters
    ----------
    um
        float64 (n, 2), positions in µm.
    """

    def __init__(self, um: Points) -> None:
        self._um = np.asarray(um, dtype=np.float64)
        self._tree = cKDTree(self._um)

    def means(self, table: npt.NDArray[Any], rows: slice, widths: Sequence[float]) -> list[npt.NDArray[Any]]:
        """Return for each width the Gaussian means (m, d) over the neighbours of some spots, each spot included.

        Parameters
        ----------
        table
            float32 or float64 (n, d), values of all spots; the result has the same dtype.
        rows
            The m spots to compute.
        widths
            Standard deviations of the Gaussian, µm; spots beyond three of them are ignored.
        """
        found = [np.empty((rows.stop - rows.start, table.shape[1]), dtype=table.dtype) for _ in widths]
        if not widths:
            return found
        reach = 3 * max(widths)
        for some in self._pieces(rows, reach):
            near = cKDTree(self._um[some]).sparse_distance_matrix(self._tree, reach, output_type="ndarray")
            for width, mean in zip(widths, found, strict=True):
                mean[some.start - rows.start : some.stop - rows.start] = self._weights(near, some, width, table) @ table
        return found

    def _weights(self, near: Any, rows: slice, width: float, table: npt.NDArray[Any]) -> Any:
        """Return row-normalised weights, CSR (m, n); the order of terms in a row does not depend on the chunk."""
        near = near[near["v"] <= 3 * width]
        shape = (rows.stop - rows.start, len(self._um))
        weights = csr_array((np.exp(-0.5 * (near["v"] / width) ** 2), (near["i"], near["j"])), shape=shape)
        weights.sort_indices()
        weights.data /= np.repeat(weights.sum(axis=1), np.diff(weights.indptr))
        return weights.astype(table.dtype)

    def _pieces(self, rows: slice, reach: float) -> Iterator[slice]:
        """Yield chunks of consecutive spots with about :data:`_PAIRS` neighbour pairs each."""
        pairs = np.cumsum(self._tree.query_ball_point(self._um[rows], reach, return_length=True))
        start = 0
        while start < len(pairs):
            before = pairs[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(pairs, before + _PAIRS, side="right")))
            yield slice(rows.start + start, rows.start + stop)
            start = stop
