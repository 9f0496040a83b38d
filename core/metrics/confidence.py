"""Confidence against what came true."""

from __future__ import annotations

import numpy as np
from stzoo.core.arrays import Array, Doubles
from stzoo.core.metrics.correlation import check_pair

POOLS = 10
"""Pools of values of similar confidence."""


def reliability(truth: Array, predicted: Array, confidence: Array, variance: Array) -> Doubles:
    """Compare confidence with the share of variance that predictions really explain.

    Confidence is read as the expected share of a gene's variance that is explained: 1 - squared error / variance.
    Values are pooled by rank of their confidence, in :data:`POOLS` pools.

    Parameters
    ----------
    truth, predicted, confidence
        (n_spots, n_genes), finite.
    variance
        (n_genes,), of each gene; genes that do not vary are left out.

    Returns
    -------
    float64 (b, 3), b <= POOLS: mean confidence, the share that was explained, and the number of values.
    """
    truth, predicted = check_pair(truth, predicted)
    varies = np.asarray(variance) > 0
    explained = 1 - ((truth - predicted)[:, varies]) ** 2 / np.asarray(variance)[varies]
    sure, found = np.asarray(confidence, dtype=np.float64)[:, varies].ravel(), explained.ravel()
    pools = np.array_split(np.argsort(sure, kind="stable"), POOLS)
    rows = [[sure[pool].mean(), found[pool].mean(), len(pool)] for pool in pools if len(pool)]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 3)
