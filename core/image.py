"""A slide as a lazy, multi-resolution array that knows its µm/px."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.image_sources import ArraySource, Pixels, RasterSource, Source, open_source


class Slide:
    """An H&E image, read by region at any µm/px. Positions are pixels of the full resolution.

    Make one with :meth:`open` or :meth:`from_array`. It can be pickled (a file is opened again) and read from
    several threads. Orientation tags of photographs are ignored: spots are given in raw pixels.
    """

    def __init__(
        self, source: Source, *, path: Path | None = None, mpp: float | None = None, scale: float = 1.0
    ) -> None:
        self._source = source
        self.path = path
        self.scale = scale
        own = None if source.mpp is None else source.mpp * scale
        self.mpp = _checked(mpp if mpp is not None else own, path)
        self.height, self.width = (round(side / scale) for side in source.shapes[0])

    @classmethod
    def open(cls, path: str | Path, *, mpp: float | None = None, scale: float = 1.0) -> Self:
        """Open a JPEG, PNG, TIFF, OME-TIFF or whole-slide file; nothing but the header is read yet.

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
            ``mpp`` is not a positive number.
        """
        path = Path(path)
        return cls(open_source(path), path=path, mpp=mpp, scale=scale)

    @classmethod
    def from_array(cls, pixels: Pixels, *, mpp: float | None = None, scale: float = 1.0) -> Self:
        """Wrap pixels in memory, uint8 (h, w, 3); ``mpp`` and ``scale`` as in :meth:`open`."""
        return cls(ArraySource(pixels), mpp=mpp, scale=scale)

    def with_mpp(self, mpp: float) -> Slide:
        """Return the same slide with other µm/px."""
        return Slide(self._source, path=self.path, mpp=mpp, scale=self.scale)

    def __repr__(self) -> str:
        return f"Slide({self.width} x {self.height} px, {self.mpp} µm/px, {self.path or 'in memory'})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind; they are opened again from the path."""
        state = dict(self.__dict__)
        if self.path is not None:
            state["_source"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file again."""
        self.__dict__.update(state)
        if self.path is not None and self._source is None:
            self._source = open_source(self.path)

    def read(self, x: float, y: float, width: float, height: float, *, mpp: float | None = None) -> Pixels:
        """Read a region.

        Parameters
        ----------
        x, y, width, height
            Top left corner and size in pixels of the full resolution; parts outside the slide are white.
        mpp
            Target µm/px (area-averaged when coarser); by default full resolution.

        Returns
        -------
        uint8 (height', width', 3) with ``height' = round(height * self.mpp / mpp)``.
        """
        factor = 1.0 if mpp is None else _checked(mpp, self.path, required=True) / self._required_mpp()
        shape = (max(1, round(height / factor)), max(1, round(width / factor)))
        return self._resample(x, y, width, height, shape)

    def tiles(self, centres: npt.NDArray[Any], *, size_px: int, mpp: float) -> Pixels:
        """Read square tiles centred on spots.

        Parameters
        ----------
        centres
            float (n, 2), x and y in pixels of the full resolution.
        size_px, mpp
            Size of a tile in pixels at ``mpp``, so it covers ``size_px * mpp`` micrometres.

        Returns
        -------
        uint8 (n, size_px, size_px, 3).
        """
        extent = size_px * _checked(mpp, self.path, required=True) / self._required_mpp()
        out = np.empty((len(centres), size_px, size_px, 3), dtype=np.uint8)
        for tile, (x, y) in zip(out, np.asarray(centres, dtype=np.float64), strict=True):
            tile[:] = self._resample(x - extent / 2, y - extent / 2, extent, extent, (size_px, size_px))
        return out

    def thumbnail(self, max_px: int) -> tuple[Pixels, float]:
        """Return the whole slide at most ``max_px`` wide and high, and thumbnail pixels per full-resolution pixel."""
        scale = min(1.0, max_px / max(self.width, self.height))
        shape = (max(1, round(self.height * scale)), max(1, round(self.width * scale)))
        if isinstance(self._source, RasterSource) and scale < 0.5:
            coarse = self._source.thumbnail(*shape)
            if coarse is not None:
                box = (0.0, 0.0, float(coarse.shape[1]), float(coarse.shape[0]))
                return _resize(coarse, box, shape), scale
        return self._resample(0, 0, self.width, self.height, shape), scale

    def _resample(self, x: float, y: float, width: float, height: float, shape: tuple[int, int]) -> Pixels:
        if not np.isfinite([x, y, width, height]).all() or width <= 0 or height <= 0:
            raise DataError(f"can not read a region at ({x}, {y}) of size {width} x {height}", where=self.path)
        factor = min(width / shape[1], height / shape[0])
        level = self._level(factor)
        rows, columns = self._source.shapes[level]
        down_x, down_y = self.width / columns, self.height / rows
        left, top, right, bottom = x / down_x, y / down_y, (x + width) / down_x, (y + height) / down_y
        x0, y0, x1, y1 = int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom))
        patch = self._padded(level, y0, x0, y1, x1)
        return _resize(patch, (left - x0, top - y0, right - x0, bottom - y0), shape)

    def _level(self, factor: float) -> int:
        """Return the coarsest level that is still at least as fine as wanted."""
        best = 0
        for level, (rows, _) in enumerate(self._source.shapes):
            if self.height / rows <= factor * 1.001:
                best = level
        return best

    def _padded(self, level: int, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        rows, columns = self._source.shapes[level]
        inside = max(y0, 0), max(x0, 0), min(y1, rows), min(x1, columns)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            return np.full((y1 - y0, x1 - x0, 3), 255, dtype=np.uint8)
        pixels = self._source.region(level, *inside)
        if inside == (y0, x0, y1, x1):
            return pixels
        patch = np.full((y1 - y0, x1 - x0, 3), 255, dtype=np.uint8)
        patch[inside[0] - y0 : inside[2] - y0, inside[1] - x0 : inside[3] - x0] = pixels
        return patch

    def _required_mpp(self) -> float:
        return _checked(self.mpp, self.path, required=True)


def _resize(patch: Pixels, box: tuple[float, float, float, float], shape: tuple[int, int]) -> Pixels:
    from PIL import Image

    shrinks = (box[2] - box[0]) >= shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], patch.shape[1]), min(box[3], patch.shape[0]))
    return np.asarray(Image.fromarray(patch).resize((shape[1], shape[0]), how, box=box))


def _checked(mpp: float | None, path: Path | None, *, required: bool = False) -> Any:
    if mpp is None:
        if required:
            raise UnitsError(
                "the slide has no µm/px, so it can not be resampled to another",
                where=path,
                todo="give it: --mpp VALUE, or Slide.open(..., mpp=VALUE)",
            )
        return None
    if not (np.isfinite(mpp) and mpp > 0):
        raise UnitsError(f"µm/px is {mpp!r}, expected a positive number", where=path)
    return float(mpp)
