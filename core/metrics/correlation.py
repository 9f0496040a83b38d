"""Correlation of each gene over spots."""

from __future__ import annotations

import numpy as np
from stzoo.core.arrays import Array, Doubles, Mask
from stzoo.core.errors import UsageError


def per_gene_pcc(truth: Array, predicted: Array) -> Doubles:
    """Return the Pearson correlation over spots of each gene.

    Parameters
    ----------
    truth, predicted
        (n_spots, n_genes), finite.

    Returns
    -------
    float64 (n_genes,), NaN where the truth or the prediction of a gene is constant.

    Raises
    ------
    UsageError
        The shapes differ, or a value is not finite.
    """
    truth, predicted = check_pair(truth, predicted)
    a, b = truth - truth.mean(axis=0), predicted - predicted.mean(axis=0)
    norms = np.sqrt((a**2).sum(axis=0)) * np.sqrt((b**2).sum(axis=0))
    varies = ~(is_constant(truth) | is_constant(predicted)) & (norms > 0)
    pcc = np.full(truth.shape[1], np.nan)
    pcc[varies] = np.clip((a * b).sum(axis=0)[varies] / norms[varies], -1, 1)
    return pcc


def is_constant(values: Array) -> Mask:
    """Return which genes have one value over all spots, bool (n_genes,); rounding noise counts as constant."""
    if len(values) == 0:
        return np.ones(values.shape[1], dtype=bool)
    spread = np.ptp(np.asarray(values, dtype=np.float64), axis=0)
    constant: Mask = spread <= 1e-6 * np.abs(values).max(axis=0)
    return constant


def concatenated_pcc(truth: Array, predicted: Array) -> float:
    """Return one Pearson correlation over all spots and genes together; NaN where either is constant.

    It measures above all how far the means of genes lie apart: predicting each gene's mean scores high. Use
    :func:`per_gene_pcc`; this one is here because the CoMTIP paper reports it (specification, section 3.4).
    """
    truth, predicted = check_pair(truth, predicted)
    return float(per_gene_pcc(truth.reshape(-1, 1), predicted.reshape(-1, 1))[0])


def check_pair(truth: Array, predicted: Array) -> tuple[Doubles, Doubles]:
    """Return both as float64 (n_spots, n_genes), or say why they can not be compared."""
    if np.shape(truth) != np.shape(predicted) or np.ndim(truth) != 2:
        raise UsageError(
            f"truth has shape {np.shape(truth)} and prediction {np.shape(predicted)}",
            todo="give both as spots x genes",
        )
    a, b = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    for name, values in (("truth", a), ("prediction", b)):
        if not np.isfinite(values).all():
            raise UsageError(f"the {name} has {int((~np.isfinite(values)).sum())} values that are not finite")
    return a, b
