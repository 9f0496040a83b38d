"""Maps of a lattice, and their structural similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
from stzoo.core.arrays import Array, Doubles, Mask
from stzoo.core.errors import UsageError
from stzoo.core.metrics.correlation import is_constant

WINDOW = 7
"""Side of the window of the structural similarity, odd."""


def to_grid(values: Array, row: Array, col: Array) -> tuple[Doubles, Mask]:
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
    mask: Mask,
    *,
    scored: Mask | None = None,
) -> float:
    """Return the structural similarity of two maps, averaged over the masked places.

    Outside the mask both maps hold the mean of the truth inside, so that empty background neither helps nor harms;
    the data range is that of the truth inside the mask (Wang et al. 2004, as scikit-image has it). The window is
    :data:`WINDOW` places wide, or less on a smaller grid.

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
    side = min(WINDOW, *mask.shape)
    side -= 1 - side % 2
    if side < 3 or not mask.any() or bool(is_constant(truth[mask][:, None])[0]):
        return float("nan")
    inside = np.asarray(truth, dtype=np.float64)[mask]
    a, b = (np.where(mask, image, inside.mean()) for image in (truth, predicted))
    similarity: Any = structural_similarity  # untyped in scikit-image
    _, scores = similarity(a, b, win_size=side, data_range=float(np.ptp(inside)), full=True)
    kept = mask if scored is None else mask & np.asarray(scored, dtype=bool)
    return float(scores[kept].mean()) if kept.any() else float("nan")
