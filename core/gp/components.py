"""The first principal components of measured profiles: what genes have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from stzoo.core.arrays import Doubles, Floats

GRAM = 3000
"""Up to this many spots or genes principal components are exact; beyond, by a randomised decomposition."""


@dataclass(frozen=True)
class Components:
    """The first principal components of the measured profiles.

    Parameters
    ----------
    scores
        float32 (n, k).
    loadings
        float32 (k, g), orthonormal rows.
    variance
        float64 (g,), variance of each gene over the measured spots.
    """

    scores: Floats
    loadings: Floats
    variance: Doubles

    @classmethod
    def of(cls, y: Floats, count: int, *, seed: int, weights: Doubles | None = None) -> Components:
        """Decompose centred expression, (n, g), into at most ``count`` components that vary.

        With ``weights``, float64 (n,), spots count by these when the components are sought.
        """
        n, g = y.shape
        count = min(count, n, g)
        variance = np.mean(y.astype(np.float64) ** 2, axis=0)
        weighted = y if weights is None else y * np.sqrt(weights / weights.mean())[:, None]
        if min(n, g) > GRAM:
            from sklearn.utils.extmath import randomized_svd

            _, _, loadings = randomized_svd(weighted, count, n_iter=6, random_state=seed)
        else:
            loadings = _loadings(weighted.astype(np.float64), count)
        loadings = np.where(variance > 0, loadings, 0.0)  # rounding must not move a gene that never varies
        scores = y @ loadings.T.astype(np.float32)
        kept = (scores**2).mean(axis=0) > 1e-9 * max(float(variance.sum()), 1e-30)
        return cls(scores[:, kept], loadings[kept].astype(np.float32), variance)

    def shares(self) -> Floats:
        """Return the share of each gene's variance that goes with each component, float32 (k, g)."""
        part = self.loadings.astype(np.float64) ** 2 * (self.scores.astype(np.float64) ** 2).mean(axis=0)[:, None]
        share = np.divide(part, self.variance, out=np.zeros_like(part), where=self.variance > 0)
        return np.asarray(share, dtype=np.float32)


def _loadings(y: Doubles, count: int) -> Doubles:
    """Return the leading right singular vectors, (count, g), from the smaller of the two Gram matrices."""
    n, g = y.shape
    if count == 0:
        return np.zeros((0, g))
    gram = y @ y.T if n < g else y.T @ y
    size = len(gram)
    _, vectors = eigh(gram, subset_by_index=(size - count, size - 1))
    if n >= g:
        return np.ascontiguousarray(vectors.T[::-1])
    right = (y.T @ vectors).T[::-1]
    lengths = np.linalg.norm(right, axis=1, keepdims=True)
    return np.asarray(np.divide(right, lengths, out=np.zeros_like(right), where=lengths > 0))
