"""The scores of a table row."""

from __future__ import annotations

import numpy as np
from stzoo.core.arrays import Array
from stzoo.core.metrics.correlation import check_pair, is_constant, per_gene_pcc


def summarise(truth: Array, predicted: Array) -> dict[str, float]:
    """Return the scores of a table row.

    A gene that is constant in the truth has no correlation: it is left out of the mean and the median, and counted.
    A gene that is predicted as a constant though it varies scores 0, so that nothing is won by not predicting.

    Returns
    -------
    ``pcc_mean``, ``pcc_median`` (NaN when no gene varies), ``constant_genes`` (constant in the truth),
    ``constant_predictions`` (varying genes predicted as constant), ``mse``, ``rmse``, ``mae``, ``genes``, ``spots``.
    """
    truth, predicted = check_pair(truth, predicted)
    varies = ~is_constant(truth)
    pcc = per_gene_pcc(truth, predicted)[varies]
    error = predicted - truth
    mse = float(np.mean(error**2)) if error.size else float("nan")
    return {
        "pcc_mean": float(np.nan_to_num(pcc).mean()) if pcc.size else float("nan"),
        "pcc_median": float(np.median(np.nan_to_num(pcc))) if pcc.size else float("nan"),
        "constant_genes": int((~varies).sum()),
        "constant_predictions": int(np.isnan(pcc).sum()),
        "mse": mse,
        "rmse": float(np.sqrt(mse)),
        "mae": float(np.mean(np.abs(error))) if error.size else float("nan"),
        "genes": truth.shape[1],
        "spots": truth.shape[0],
    }


def mean_pcc(truth: Array, predicted: Array) -> float:
    """Return the mean correlation over the genes that vary, a constant prediction counting 0; NaN where none varies."""
    pcc = np.where(is_constant(truth), np.nan, np.nan_to_num(per_gene_pcc(truth, predicted)))
    return float(np.nanmean(pcc)) if np.isfinite(pcc).any() else float("nan")
