"""A slide as a lazy, multi-resolution array that knows its µm/px."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Pixels
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.slides.base import ArraySource, Source
from stzoo.core.slides.sources import RasterSource, open_source

BAND_PIXELS = 2_000_000
"""Source pixels that are held at a time when a large region is shrunk: what bounds the memory of a thumbnail."""


class Slide:
    """An H&E image, read by region at any µm/px. Positions are pixels of the full resolution.

    Make one with :meth:`open` or :meth:`from_array`. It can be pickled (a file is opened again) and read from
    several threads and forked processes. Memory follows the request in tiled and striped TIFF, pyramids and
    whole-slide files; JPEG and PNG have no tiles, so the first region decodes the image, which is then kept.
    Orientation tags are ignored, since spots are given in raw pixels, and so are colour profiles.
    """

    def __init__(
        self, source: Source, *, path: Path | None = None, mpp: float | None = None, scale: float = 1.0
    ) -> None:
        if not (np.isfinite(scale) and scale > 0):
            raise UnitsError(f"scale of the image is {scale!r}, expected a positive number", where=path)
        self._source: Source = source
        self.path = path
        self.scale = scale
        own = None if source.mpp is None else source.mpp * scale
        self.mpp: float | None = _check_mpp(mpp if mpp is not None else own, path)
        self.height, self.width = (max(1, round(side / scale)) for side in source.shapes[0])

    @classmethod
    def open(cls, path: str | Path, *, mpp: float | None = None, scale: float = 1.0) -> Self:
        """Open a JPEG, PNG, BMP, TIFF, OME-TIFF, SVS or other whole-slide file; only its header is read yet.

        Parameters
        ----------
        path
            The file.
        mpp
            Micrometres per pixel at full resolution; by default what the file says, or None.
        scale
            Pixels of this file per pixel of the full resolution (below 1 for a reduced copy such as Visium's
            ``tissue_hires_image``); positions stay those of the full resolution.

        Raises
        ------
        DataError
            Missing, damaged or not an image; an extra is needed.
        UnitsError
            ``mpp`` (or what the file says) is not a positive number.
        """
        path = Path(path)
        return cls(open_source(path), path=path, mpp=mpp, scale=scale)

    @classmethod
    def from_array(cls, pixels: Pixels, *, mpp: float | None = None, scale: float = 1.0) -> Self:
        """Wrap pixels in memory, uint8 (h, w, 3); ``mpp`` and ``scale`` as in :meth:`open`."""
        return cls(ArraySource(pixels), mpp=mpp, scale=scale)

    def with_mpp(self, mpp: float) -> Slide:
        """Return the same slide (one decoded image, one set of open files) with other µm/px."""
        return Slide(self._source, path=self.path, mpp=mpp, scale=self.scale)

    def __repr__(self) -> str:
        return f"Slide({self.width} x {self.height} px, {self.mpp} µm/px, {self.path or 'in memory'})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind; they are opened again from the absolute path."""
        state = dict(self.__dict__)
        if self.path is not None:
            state["_source"], state["_reopen"] = None, self.path.absolute()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file again."""
        reopen = state.pop("_reopen", None)
        self.__dict__.update(state)
        if reopen is not None:
            self._source = open_source(reopen)

    def read(self, x: float, y: float, width: float, height: float, *, mpp: float | None = None) -> Pixels:
        """Read a region.

        Parameters
        ----------
        x, y, width, height
            Top left corner and size in pixels of the full resolution; parts outside the slide are white.
        mpp
            Target µm/px (area-averaged when coarser, bilinear when finer); by default full resolution.

        Returns
        -------
        uint8 (height', width', 3) with ``height' = round(height * self.mpp / mpp)``.

        Raises
        ------
        UnitsError
            A target is asked for, but the slide's own µm/px are unknown, or the target is not positive.
        DataError
            The region is empty or not finite, or the file is damaged there.
        """
        factor = 1.0 if mpp is None else self._factor(mpp)
        self._check_region(x, y, width, height)
        return self._resample(x, y, width, height, (max(1, round(height / factor)), max(1, round(width / factor))))

    def tiles(self, centres: npt.ArrayLike, *, size_px: int, mpp: float) -> Pixels:
        """Read square tiles centred on spots.

        Parameters
        ----------
        centres
            (n, 2), x and y in pixels of the full resolution.
        size_px, mpp
            Size of a tile in pixels at ``mpp``, so it covers ``size_px * mpp`` micrometres.

        Returns
        -------
        uint8 (n, size_px, size_px, 3). All n are held at once: call it by the batch.

        Raises
        ------
        UnitsError, DataError
            As :meth:`read`; a centre that is not finite is named with its row.
        """
        places = np.asarray(centres, dtype=np.float64)
        if places.ndim != 2 or places.shape[1] != 2 or size_px < 1:
            raise DataError(f"tiles of {size_px} px at centres of shape {places.shape}: expected >= 1 and (n, 2)")
        bad = np.flatnonzero(~np.isfinite(places).all(axis=1))
        if bad.size:
            raise DataError(f"centre {bad[0]} is {places[bad[0]].tolist()}, expected finite pixels", where=self.path)
        extent = size_px * self._factor(mpp)
        out = np.empty((len(places), size_px, size_px, 3), dtype=np.uint8)
        for tile, (x, y) in zip(out, places, strict=True):
            tile[:] = self._resample(x - extent / 2, y - extent / 2, extent, extent, (size_px, size_px))
        return out

    def thumbnail(self, max_px: int) -> tuple[Pixels, float]:
        """Return the whole slide, small.

        A JPEG is decoded at the coarsest of 1/2, 1/4 and 1/8 that is still fine enough, always, so the result does
        not depend on what was read before (it is within a few grey values of the area average).

        Parameters
        ----------
        max_px
            Largest width and height.

        Returns
        -------
        uint8 (h, w, 3), and thumbnail pixels per full-resolution pixel (at most the scale of the file).
        """
        if max_px < 1:
            raise DataError(f"a thumbnail of {max_px} px: expected at least 1", where=self.path)
        rows, columns = self._source.shapes[0]
        ratio = min(1.0, max_px / max(rows, columns))  # of the file's own pixels: nothing is gained by enlarging
        shape = (max(1, round(rows * ratio)), max(1, round(columns * ratio)))
        scale = ratio * self.scale
        if isinstance(self._source, RasterSource):
            coarse = self._source.coarse(ratio)
            if coarse is not None:
                from stzoo.core.slides.resampling import resample

                return resample(coarse, (0, 0, coarse.shape[1], coarse.shape[0]), shape), scale
        return self._resample(0, 0, self.width, self.height, shape), scale

    def _factor(self, mpp: float) -> float:
        """Return full-resolution pixels per pixel at ``mpp``."""
        target = _check_mpp(mpp, self.path)
        if self.mpp is None or target is None:
            raise UnitsError(
                "the slide has no µm/px, so it can not be resampled to another",
                where=self.path,
                todo="give it: --mpp VALUE, or Slide.open(..., mpp=VALUE)",
            )
        return target / self.mpp

    def _check_region(self, x: float, y: float, width: float, height: float) -> None:
        if not np.isfinite([x, y, width, height]).all() or width <= 0 or height <= 0:
            raise DataError(f"can not read a region at ({x}, {y}) of size {width} x {height}", where=self.path)

    def _resample(self, x: float, y: float, width: float, height: float, shape: tuple[int, int]) -> Pixels:
        """Read a region into (rows, columns), band by band, so that shrinking a huge one needs little memory."""
        from stzoo.core.slides.resampling import margin, resample

        step_x, step_y = width / shape[1], height / shape[0]
        level = self._level(min(step_x, step_y))
        rows, columns = self._source.shapes[level]
        down_x, down_y = self.width / columns, self.height / rows
        left, right = x / down_x, (x + width) / down_x
        extra_x, extra_y = margin(step_x / down_x), margin(step_y / down_y)
        x0, x1 = _floor(left - extra_x), _ceil(right + extra_x)
        band = max(1, int(BAND_PIXELS / max(1, x1 - x0) / (step_y / down_y)))
        parts: list[Pixels] = []
        for first in range(0, shape[0], band):
            last = min(first + band, shape[0])
            top, bottom = (y + first * step_y) / down_y, (y + last * step_y) / down_y
            y0, y1 = _floor(top - extra_y), _ceil(bottom + extra_y)
            patch = self._pad_region(level, y0, x0, y1, x1)
            parts.append(resample(patch, (left - x0, top - y0, right - x0, bottom - y0), (last - first, shape[1])))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _level(self, factor: float) -> int:
        """Return the coarsest level that is still at least as fine as wanted."""
        best = 0
        for level, (rows, columns) in enumerate(self._source.shapes):
            # 1 %: the sides of a level are rounded to whole pixels, so a "2x" level is 2.003x
            if max(self.height / rows, self.width / columns) <= factor * 1.01:
                best = level
        return best

    def _pad_region(self, level: int, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        rows, columns = self._source.shapes[level]
        top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1, rows), min(x1, columns)
        if top >= bottom or left >= right:
            return np.full((y1 - y0, x1 - x0, 3), 255, dtype=np.uint8)
        pixels = self._source.region(level, top, left, bottom, right)
        if (top, left, bottom, right) == (y0, x0, y1, x1):
            return pixels
        patch = np.full((y1 - y0, x1 - x0, 3), 255, dtype=np.uint8)
        patch[top - y0 : bottom - y0, left - x0 : right - x0] = pixels
        return patch


def _floor(value: float) -> int:
    return int(np.floor(value + 1e-6))  # 1e-6 px: what rounding of the units leaves must not cost a pixel of reading


def _ceil(value: float) -> int:
    return int(np.ceil(value - 1e-6))


def _check_mpp(mpp: float | None, path: Path | None) -> float | None:
    if mpp is None:
        return None
    if not (np.isfinite(mpp) and mpp > 0):
        raise UnitsError(
            f"µm/px is {mpp!r}, expected a positive number", where=path, todo="give it: --mpp VALUE, e.g. 0.5"
        )
    return float(mpp)
