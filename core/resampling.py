"""Area-true resampling: every source pixel counts by the share of it that lies under the target pixel."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

P = TypeVar("P", np.uint8, np.uint16, np.float32, np.float64)

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels whose corners are integers."""


def margin(factor: float) -> float:
    """Return how far, in source pixels, a result reaches beyond its box when pixels get smaller by ``factor``."""
    return max(0.0, (1.0 - factor) / 2)


def resample(pixels: npt.NDArray[P], box: Box, shape: tuple[int, int]) -> npt.NDArray[P]:
    """Resample a box of an image to another number of pixels.

    A target pixel is the mean over a window around its centre: its own footprint when pixels get larger (exact
    area average, fractions of pixels included), one source pixel when they get smaller (bilinear). Pillow's ``BOX``
    takes or leaves whole pixels, which shifts structures by up to half a pixel at ratios such as 0.69 to 1 µm/px.

    Parameters
    ----------
    pixels
        (h, w, channels), uint8, uint16 or float.
    box
        The region, in pixels of ``pixels``; where it leaves the image, the border pixels stand for what is missing.
    shape
        Height and width of the result.

    Returns
    -------
    (height, width, channels) of the same dtype, rounded to nearest.
    """
    left, top, right, bottom = box
    if (left, top, right, bottom) == (0, 0, pixels.shape[1], pixels.shape[0]) and shape == pixels.shape[:2]:
        return pixels.copy()
    height, width, channels = (*shape, pixels.shape[2])
    work = np.float64 if pixels.dtype == np.float64 else np.float32
    vertical = _weights(top, bottom, height, pixels.shape[0], work)
    rows = vertical @ pixels.reshape(pixels.shape[0], -1).astype(work, copy=False)  # (height, w * channels)
    turned = rows.reshape(height, pixels.shape[1], channels).swapaxes(0, 1).reshape(pixels.shape[1], -1)
    done = _weights(left, right, width, pixels.shape[1], work) @ turned  # (width, height * channels)
    result = done.reshape(width, height, channels).swapaxes(0, 1)
    if np.issubdtype(pixels.dtype, np.integer):
        result = result + 0.5
    return np.ascontiguousarray(result, dtype=pixels.dtype)


def _weights(low: float, high: float, n: int, size: int, dtype: type[np.floating]) -> csr_array:
    """Return the (n, size) matrix that averages ``size`` pixels over n windows between ``low`` and ``high``."""
    step = (high - low) / n
    window = max(step, 1.0)
    start = low + (np.arange(n) + 0.5) * step - window / 2
    taps = int(np.ceil(window)) + 1
    index = np.floor(start).astype(np.int64)[:, None] + np.arange(taps)  # (n, taps)
    overlap = np.minimum(index + 1, start[:, None] + window) - np.maximum(index, start[:, None])
    weight = (overlap.clip(min=0.0) / window).astype(dtype)
    data, columns = weight.ravel(), index.clip(0, size - 1).ravel()
    return csr_array((data, columns, np.arange(0, n * taps + 1, taps)), shape=(n, size))
