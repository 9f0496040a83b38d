"""Factors of a section that are smooth in space: maximum autocorrelation factors (Switzer & Green 1984).

Principal components are ordered by variance, and noise has variance too. These directions are ordered by how much
of what they vary is shared by neighbouring spots, in units of what is not.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.spatial import cKDTree
from stzoo.core.arrays import Doubles, Points

NEIGHBOURS = 4
"""Nearest measured spots whose differences tell the noise."""
RIDGE = 1e-3
"""Share of the mean noise that is added to the noise of every direction, so that none is taken for free of it."""


def smooth_factors(scores: Doubles, points: Points, weights: Doubles, count: int) -> Doubles:
    """Rotate scores to the directions that neighbours share most.

    Parameters
    ----------
    scores
        float64 (n, k), columns of mean 0.
    points
        float64 (n, 2), where the spots lie.
    weights
        float64 (n,), how much each spot counts, e.g. 1 / variance of its noise.
    count
        Factors wanted, at most.

    Returns
    -------
    float64 (n, min(count, k)), the noise of each of variance 1, the smoothest first; empty where nothing
    varies or there are no neighbours.
    """
    n, k = scores.shape
    few = min(NEIGHBOURS, n - 1)
    if few < 1 or not scores.any():
        return np.zeros((n, 0))
    near = np.asarray(cKDTree(points).query(points, k=few + 1)[1])[:, 1:]
    a, b = np.repeat(np.arange(n), few), near.ravel()
    shared = np.sqrt(weights[a] * weights[b])
    noise = _covariance(scores[a] - scores[b], shared) / 2
    noise += (RIDGE * np.trace(noise) / k + 1e-12) * np.eye(k)
    _, vectors = eigh(_covariance(scores, weights), noise)
    return np.asarray(scores @ vectors[:, ::-1][:, :count])


def _covariance(x: Doubles, weights: Doubles) -> Doubles:
    return np.asarray((x * (weights / weights.sum())[:, None]).T @ x)
