"""Figures of merit: correlation of each gene, errors, ranks of retrieval, masked SSIM on grids."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Array, Doubles
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
    truth, predicted = _checked(truth, predicted)
    a, b = truth - truth.mean(axis=0), predicted - predicted.mean(axis=0)
    norms = np.sqrt((a**2).sum(axis=0)) * np.sqrt((b**2).sum(axis=0))
    varies = ~(is_constant(truth) | is_constant(predicted)) & (norms > 0)
    pcc = np.full(truth.shape[1], np.nan)
    pcc[varies] = np.clip((a * b).sum(axis=0)[varies] / norms[varies], -1, 1)
    return pcc


def is_constant(values: Array) -> npt.NDArray[np.bool_]:
    """Return which genes have one value over all spots, bool (n_genes,); rounding noise counts as constant."""
    if len(values) == 0:
        return np.ones(values.shape[1], dtype=bool)
    spread = np.ptp(np.asarray(values, dtype=np.float64), axis=0)
    constant: npt.NDArray[np.bool_] = spread <= 1e-6 * np.abs(values).max(axis=0)
    return constant


def summarise(truth: Array, predicted: Array) -> dict[str, float]:
    """Return the figures of a table row.

    A gene that is constant in the truth has no correlation: it is left out of the mean and the median, and counted.
    A gene that is predicted as a constant though it varies scores 0, so that nothing is won by not predicting.

    Returns
    -------
    ``pcc_mean``, ``pcc_median`` (NaN when no gene varies), ``constant_genes`` (constant in the truth),
    ``constant_predictions`` (varying genes predicted as constant), ``mse``, ``rmse``, ``mae``, ``genes``, ``spots``.
    """
    truth, predicted = _checked(truth, predicted)
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


def concatenated_pcc(truth: Array, predicted: Array) -> float:
    """Return one Pearson correlation over all spots and genes together; NaN where either is constant.

    It measures above all how far the means of genes lie apart: predicting each gene's mean scores high. Use
    :func:`per_gene_pcc`; this one is here because the CoMTIP paper reports it (specification, section 3.4).
    """
    truth, predicted = _checked(truth, predicted)
    return float(per_gene_pcc(truth.reshape(-1, 1), predicted.reshape(-1, 1))[0])


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


def to_grid(values: Array, row: Array, col: Array) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Lay the spots of a lattice out as an image.

    Parameters
    ----------
    values
        (n_spots,) or (n_spots, n_genes).
    row, col
        Lattice indices (integers), (n_spots,).

    Returns
    -------
    float64 (h, w) or (h, w, n_genes), NaN where there is no spot; bool (h, w), true where there is one.
    """
    row, col = (np.asarray(axis, dtype=np.intp) for axis in (row, col))
    row, col = row - row.min(), col - col.min()
    shape = (int(row.max()) + 1, int(col.max()) + 1)
    grid = np.full((*shape, *np.shape(values)[1:]), np.nan)
    mask = np.zeros(shape, dtype=bool)
    grid[row, col], mask[row, col] = values, True
    if mask.sum() != len(row):
        raise UsageError("two spots share a place of the grid", todo="check array_row and array_col")
    return grid, mask


def masked_ssim(
    truth: Array,
    predicted: Array,
    mask: npt.NDArray[np.bool_],
    *,
    scored: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Return the structural similarity of two maps, averaged over the masked places.

    Outside the mask both maps hold the mean of the truth inside, so that empty background neither helps nor harms;
    the data range is that of the truth inside the mask (Wang et al. 2004, as scikit-image has it). The window is 7
    places wide, or less on a smaller grid.

    Parameters
    ----------
    truth, predicted
        (h, w); values outside the mask are not read (NaN is fine).
    mask
        bool (h, w), the places that have a value.
    scored
        bool (h, w), the places that are averaged over, where that is not the whole mask.

    Returns
    -------
    A value <= 1; NaN when the truth is constant inside the mask or the grid is less than 3 wide.
    """
    from skimage.metrics import structural_similarity

    mask = np.asarray(mask, dtype=bool)
    if truth.shape != mask.shape or predicted.shape != mask.shape:
        raise UsageError(f"maps of {truth.shape} and {predicted.shape} with a mask of {mask.shape}: shapes differ")
    side = min(7, *mask.shape)
    side -= 1 - side % 2
    if side < 3 or not mask.any() or bool(is_constant(truth[mask][:, None])[0]):
        return float("nan")
    inside = np.asarray(truth, dtype=np.float64)[mask]
    a, b = (np.where(mask, image, inside.mean()) for image in (truth, predicted))
    similarity: Any = structural_similarity  # untyped in scikit-image
    _, scores = similarity(a, b, win_size=side, data_range=float(np.ptp(inside)), full=True)
    kept = mask if scored is None else mask & np.asarray(scored, dtype=bool)
    return float(scores[kept].mean()) if kept.any() else float("nan")


def reliability(truth: Array, predicted: Array, confidence: Array, variance: Array) -> Doubles:
    """Compare confidence with the share of variance that predictions really explain.

    Confidence is read as the expected share of a gene's variance that is explained: 1 - squared error / variance.
    Values are pooled by rank of their confidence, in ten pools.

    Parameters
    ----------
    truth, predicted, confidence
        (n_spots, n_genes), finite.
    variance
        (n_genes,), of each gene; genes that do not vary are left out.

    Returns
    -------
    float64 (b, 3), b <= 10: mean confidence, the share that was explained, and the number of values.
    """
    truth, predicted = _checked(truth, predicted)
    varies = np.asarray(variance) > 0
    explained = 1 - ((truth - predicted)[:, varies]) ** 2 / np.asarray(variance)[varies]
    sure, found = np.asarray(confidence, dtype=np.float64)[:, varies].ravel(), explained.ravel()
    pools = np.array_split(np.argsort(sure, kind="stable"), 10)
    rows = [[sure[pool].mean(), found[pool].mean(), len(pool)] for pool in pools if len(pool)]
    return np.asarray(rows, dtype=np.float64).reshape(-1, 3)


def _checked(truth: Array, predicted: Array) -> tuple[Doubles, Doubles]:
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
