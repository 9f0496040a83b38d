"""Pearson correlations of values that come block by block, and from several processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Doubles, Floats


class RunningPCC:
    """Correlation over spots of each gene, from sums about running means (Chan, Golub and LeVeque 1979).

    Parameters
    ----------
    n_genes
        All genes.
    columns
        Those that are compared, among all; the others get NaN.
    """

    def __init__(self, n_genes: int, columns: Sequence[int] | npt.NDArray[np.intp]) -> None:
        self._n_genes, self._columns = n_genes, np.asarray(columns, dtype=np.intp)
        self._n = 0
        self._mean: Doubles = np.zeros((2, len(columns)))  # of truth and prediction
        self._sums: Doubles = np.zeros((3, len(columns)))  # squares of both, and products, about the means

    def add(self, truth: Floats, predicted: Floats) -> None:
        """Take in some spots, (n, columns) each, finite."""
        both = np.stack([truth, predicted]).astype(np.float64)
        mean = both.mean(axis=1)
        x, y = both - mean[:, None]
        self._join(len(truth), mean, np.stack([(x * x).sum(axis=0), (y * y).sum(axis=0), (x * y).sum(axis=0)]))

    def _join(self, n: int, mean: Doubles, sums: Doubles) -> None:
        if n == 0:
            return
        total, step = self._n + n, mean - self._mean
        between = np.stack([step[0] ** 2, step[1] ** 2, step[0] * step[1]])
        self._sums = self._sums + sums + between * (self._n * n / total)
        self._mean = self._mean + step * (n / total)
        self._n = total

    def pcc(self) -> Floats:
        """Return the correlations, float32 (n_genes,), NaN where a gene is constant, or nothing was compared."""
        out = np.full(self._n_genes, np.nan, dtype=np.float32)
        if self._n < 2:
            return out
        noise = self._n * (1e-7 * np.abs(self._mean)) ** 2  # what rounding leaves of a constant in float32
        norms = np.sqrt(self._sums[0] * self._sums[1])
        varies = (self._sums[:2] > noise).all(axis=0) & (norms > 0)
        out[self._columns[varies]] = np.clip(self._sums[2][varies] / norms[varies], -1, 1)
        return out

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return its arrays, for :meth:`from_states`."""
        counts = np.array([self._n_genes, self._n])
        return {"counts": counts, "columns": self._columns, "mean": self._mean, "sums": self._sums}

    @classmethod
    def from_states(cls, states: Iterable[Mapping[str, npt.NDArray[Any]]]) -> Self:
        """Return what several processes have taken in together, of at least one."""
        found: Self | None = None
        for state in states:
            n_genes, n = (int(count) for count in state["counts"])
            found = found or cls(n_genes, state["columns"])
            found._join(n, state["mean"], state["sums"])
        assert found is not None  # there is always a rank 0
        return found
