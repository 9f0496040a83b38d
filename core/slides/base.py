"""What every source of a slide's pixels shares: the protocol, pixels in memory, and how any image becomes RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Pixels
from stzoo.core.errors import DataError, UnitsError

DAMAGED = "copy or download the file again"


class NeedsWholeSlideError(DataError):
    """A TIFF that only a whole-slide library reads with its right colours."""


class Source(Protocol):
    """Pixels at one or more resolutions.

    ``shapes`` are (height, width) of each level, the full resolution first; ``mpp`` is µm/px of level 0 or None.
    """

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """(height, width) of each level."""

    @property
    def mpp(self) -> float | None:
        """µm/px of level 0, or None."""

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Return uint8 (bottom - top, right - left, 3); the box lies inside the level."""


class ArraySource:
    """Pixels in memory, or anything that slices like an array; several levels if given."""

    def __init__(self, *levels: Any, mpp: float | None = None) -> None:
        for level in levels:
            if len(level.shape) != 3 or level.shape[2] != 3 or level.dtype != np.uint8 or 0 in level.shape:
                raise DataError(f"expected pixels uint8 (h, w, 3), got {level.dtype} {tuple(level.shape)}")
        self._levels = levels
        self.shapes = [(int(level.shape[0]), int(level.shape[1])) for level in levels]
        self.mpp = mpp

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Slice the level."""
        return np.asarray(self._levels[level][top:bottom, left:right], dtype=np.uint8)


def square(x: float | None, y: float | None, path: Path) -> float | None:
    """Return the µm/px of both axes, or refuse pixels that are not square (to 1 %)."""
    if x is None or y is None:
        return x if y is None else y
    if abs(x - y) > 0.01 * max(abs(x), abs(y)):
        raise UnitsError(f"pixels are not square: {x} x {y} µm", where=path, todo="export the image with square pixels")
    return x


def to_rgb(data: npt.NDArray[Any]) -> Pixels:
    """Return any image array as uint8 (h, w, 3): gray is repeated, 16 bits scaled, transparency laid on white.

    Parameters
    ----------
    data
        (h, w) or (h, w, 1 | 3 | 4), bool, uint8 or uint16.
    """
    if data.dtype == np.uint16:
        data = ((data.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif data.dtype == bool:
        data = data.astype(np.uint8) * 255
    elif data.dtype != np.uint8:
        raise DataError(f"the image has {data.dtype} pixels, expected 8 or 16 bits")
    if data.ndim == 2:
        data = data[..., None]
    if data.ndim != 3 or data.shape[-1] not in (1, 3, 4):
        raise DataError(f"the image has shape {data.shape}, expected gray, RGB or RGBA")
    if data.shape[-1] == 1:
        return np.repeat(data, 3, axis=-1)
    if data.shape[-1] == 4:
        alpha = data[..., 3:].astype(np.uint16)
        return ((data[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return data
