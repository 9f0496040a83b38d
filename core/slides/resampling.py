"""Area-true resampling: every source pixel counts by the share of it that lies under the target pixel."""

from __future__ import annotations

from typing import Any, TypeVar

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
    flat: npt.NDArray[Any] = pixels.reshape(pixels.shape[0], -1).astype(work, copy=False)  # (h, w * channels)
    rows = _weights(top, bottom, height, pixels.shape[0], 1, work) @ flat  # (height, w * channels)
    done = _weights(left, right, width, pixels.shape[1], channels, work) @ np.ascontiguousarray(
        rows.T
    )  # (width * channels, height)
    result = done.T.reshape(height, width, channels)
    if np.issubdtype(pixels.dtype, np.integer):
        result = result + 0.5
    return np.ascontiguousarray(result, dtype=pixels.dtype)


def _weights(low: float, high: float, n: int, size: int, channels: int, dtype: type[np.floating]) -> csr_array:
    """Return the matrix that averages pixels over n windows between ``low`` and ``high``.

    Shape (n * channels, size * channels); the channels of a pixel lie side by side and do not mix: so a
    whole matrix is turned between the two passes, which is much cheaper than swapping axes before three channels.
    """
    step = (high - low) / n
    window = max(step, 1.0)
    start = low + (np.arange(n) + 0.5) * step - window / 2
    taps = int(np.ceil(window)) + 1
    index = np.floor(start).astype(np.int64)[:, None] + np.arange(taps)  # (n, taps)
    overlap = np.minimum(index + 1, start[:, None] + window) - np.maximum(index, start[:, None])
    weight = (overlap.clip(min=0.0) / window).astype(dtype)
    columns = index.clip(0, size - 1)[:, None, :] * channels + np.arange(channels)[:, None]  # (n, channels, taps)
    data = np.broadcast_to(weight[:, None, :], columns.shape)
    ends = np.arange(0, n * channels * taps + 1, taps)
    return csr_array((data.ravel(), columns.ravel(), ends), shape=(n * channels, size * channels))
