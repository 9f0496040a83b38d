"""Ranks of the right answers of a retrieval."""

from __future__ import annotations

import numpy as np
from stzoo.core.arrays import Array, Doubles
from stzoo.core.errors import UsageError


def partner_ranks(similarity: Array) -> Doubles:
    """Return the rank of the right answer of each query, 1 for the best; ties share their mean rank.

    Parameters
    ----------
    similarity
        (n, n), finite, of query i (row) and answer j (column); answer i is the right one.

    Returns
    -------
    float64 (n,) in [1, n].
    """
    similarity = np.asarray(similarity, dtype=np.float64)
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not np.isfinite(similarity).all():
        raise UsageError(f"a similarity of shape {similarity.shape}, expected (n, n) without gaps")
    right = np.diag(similarity)[:, None]
    above, ties = (similarity > right).sum(axis=1), (similarity == right).sum(axis=1)
    return np.asarray(1 + above + (ties - 1) / 2, dtype=np.float64)
