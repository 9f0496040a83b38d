"""TIFF, OME-TIFF, SVS and TIFF pyramids through tifffile: only the tiles (or strips) of a region are decoded.

Why tiles are not read through tifffile's zarr store (``benchmarks/tiff_tiles.py``; SVS, JPEG tiles, LZW strips; the
same pixels): a spot's region costs 9 to 33 times the CPU where spots follow each other, 1.4 to 10 times where they do
not, since the store keeps no decoded tile; behind zarr's experimental cache still 1.5 to 5.1 and 1.1 to 3.4 times.
Whole levels cost about the same (0.8 to 1.2 times). Ours also names a damaged tile, a truncated file and a sparse one.
"""

from __future__ import annotations

import mmap
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Pixels
from stzoo.core.errors import DataError
from stzoo.core.slides.base import DAMAGED, NeedsWholeSlideError, square, to_rgb

CACHE_BYTES = 64 * 2**20
"""Decoded tiles kept a file: neighbouring spots share them."""

_TO_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_CENTIMETRE = 3
_JPEG = (6, 7)
_FIELDS = (270, 282, 283, 296, 330)  # description, resolutions and their unit, SubIFDs
_APERIO_YCC = 33003  # JPEG 2000 whose file does not say that it is YCbCr: tifffile would give wrong colours
_PLAIN = ("MINISBLACK", "RGB", "YCBCR", "MINISWHITE", "PALETTE")


class TiffSource:
    """The first image of a TIFF file, with the levels of its pyramid."""

    def __init__(self, path: Path) -> None:
        import tifffile

        self._path = path
        try:
            with tifffile.TiffFile(path) as file:
                series = file.series[0]
                self._levels = [_TiffLevel(level, path) for level in series.levels if level.axes == series.axes]
                self.mpp = _tiff_mpp(file, path)
                size = file.filehandle.size
                lost = _lost_fields(file)
        except (
            tifffile.TiffFileError,
            OSError,
            ValueError,
            IndexError,
            KeyError,
            RuntimeError,
            TypeError,
            ParseError,
            struct.error,
            ArithmeticError,
        ) as error:
            raise DataError(f"not a readable TIFF: {error}", where=path, todo=DAMAGED) from error
        self.shapes: Sequence[tuple[int, int]] = [level.shape for level in self._levels]
        if any(0 in shape for shape in self.shapes):
            raise DataError(f"the TIFF has {self.shapes[0][1]} x {self.shapes[0][0]} pixels", where=path)
        end = max(level.end for level in self._levels)
        if end > size or lost:
            missing = f"it refers to byte {end}" if end > size else f"its header fields {lost} are beyond the end"
            raise DataError(f"the TIFF is truncated: it has {size} bytes, {missing}", where=path, todo=DAMAGED)
        with path.open("rb") as handle:  # mapped: no seek, so threads and forked processes can not disturb each other
            self._bytes = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._cache: OrderedDict[tuple[int, int, int], npt.NDArray[Any]] = OrderedDict()
        self._cached, self._lock = 0, threading.Lock()

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Decode the tiles under a box."""
        plan = self._levels[level]
        rows, columns = plan.chunk
        out = np.zeros((bottom - top, right - left, plan.channels), dtype=plan.dtype)
        down, across = range(top // rows, -(-bottom // rows)), range(left // columns, -(-right // columns))
        for page, plane, i, j in product(range(len(plan.pages)), range(plan.planes), down, across):
            tile = self._tile(level, page, (plane * plan.grid[0] + i) * plan.grid[1] + j)
            y0, x0 = max(top, i * rows), max(left, j * columns)
            y1, x1 = min(bottom, (i + 1) * rows), min(right, (j + 1) * columns)
            part = tile[y0 - i * rows : y1 - i * rows, x0 - j * columns : x1 - j * columns]
            channel = page * plan.planes + plane
            which = slice(None) if plan.samples == plan.channels else slice(channel, channel + 1)
            out[y0 - top : y1 - top, x0 - left : x1 - left, which] = part
        return plan.colours(out)

    def _tile(self, level: int, page: int, index: int) -> npt.NDArray[Any]:
        """Return one tile or strip, (rows, columns, samples), decoded at most once while it stays in the cache."""
        key = (level, page, index)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        tile = self._decode(level, page, index)
        with self._lock:
            if key not in self._cache:
                self._cached += tile.nbytes
            self._cache[key] = tile
            while self._cached > CACHE_BYTES and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _decode(self, level: int, page: int, index: int) -> npt.NDArray[Any]:
        plan = self._levels[level]
        offset, count = plan.offsets[page][index], plan.counts[page][index]
        if count == 0:  # a sparse file: nothing was scanned there
            return np.full((*plan.chunk, plan.samples), plan.white, dtype=plan.dtype)
        try:
            tile, _, _ = plan.decoder(self._bytes[offset : offset + count], index, jpegtables=plan.tables[page])
        except Exception as error:  # each codec has an error class of its own
            raise DataError(f"the TIFF is damaged: {error}", where=self._path, todo=DAMAGED) from error
        decoded: npt.NDArray[Any] = tile[0]  # (depth = 1, rows, columns, samples)
        return decoded


class _TiffLevel:
    """Where the tiles of one resolution lie in the file, and how they are decoded."""

    def __init__(self, level: Any, path: Path) -> None:
        axes: str = level.axes
        self.pages = [page.aspage() for page in level.pages]
        key = self.pages[0]
        kind = key.photometric.name if hasattr(key.photometric, "name") else str(key.photometric)
        self.photometric: str = kind
        self.planes = int(key.samplesperpixel) if int(key.planarconfig) == 2 else 1
        self.samples = 1 if self.planes > 1 else int(key.samplesperpixel)
        self.channels = len(self.pages) * self.planes * self.samples
        alpha = bool(key.extrasamples)
        if set(axes) - set("YXSC") or "Y" not in axes or "X" not in axes or kind not in _PLAIN:
            raise _not_one_image(f"axes {axes} and colours {kind}", path)
        if int(np.prod(level.shape)) != self.channels * int(key.imagelength) * int(key.imagewidth):
            raise _not_one_image(f"the shape {level.shape} over {len(self.pages)} page(s)", path)
        if int(key.compression) == _APERIO_YCC or (kind == "YCBCR" and int(key.compression) not in _JPEG):
            raise NeedsWholeSlideError(f"YCbCr colours of compression {int(key.compression)}", where=path)
        if self.channels not in (1, 3) and not (self.channels == 4 and alpha):
            raise _not_one_image(f"{self.channels} channels", path)
        self.dtype: np.dtype[Any] = np.dtype(key.dtype)
        if self.dtype not in (np.uint8, np.uint16, np.bool_):
            raise DataError(f"the TIFF has {self.dtype} pixels, expected 8 or 16 bits", where=path)
        self.shape = (int(key.imagelength), int(key.imagewidth))
        self.chunk = (max(1, min(int(key.rowsperstrip), self.shape[0])), max(1, self.shape[1]))
        if key.is_tiled:
            self.chunk = (int(key.tilelength), int(key.tilewidth))
        self.grid = (-(-self.shape[0] // self.chunk[0]), -(-self.shape[1] // self.chunk[1]))
        self.offsets = [page.dataoffsets for page in self.pages]
        self.counts = [page.databytecounts for page in self.pages]
        tiles = self.grid[0] * self.grid[1] * self.planes
        if any(len(listed) != tiles for listed in (*self.offsets, *self.counts)):
            raise DataError(f"the TIFF lists {len(self.offsets[0])} tiles, not {tiles}", where=path, todo=DAMAGED)
        self.tables = [page.jpegtables for page in self.pages]
        self.decoder = key.decode
        self.white = 0 if kind == "MINISWHITE" else 1 if self.dtype == np.bool_ else np.iinfo(self.dtype).max
        self.colormap = key.colormap
        self.end = max(
            o + c for page in zip(self.offsets, self.counts, strict=True) for o, c in zip(*page, strict=True)
        )

    def colours(self, data: npt.NDArray[Any]) -> Pixels:
        """Return uint8 RGB out of the channels as they are stored, (h, w, channels)."""
        if self.photometric == "PALETTE" and self.colormap is not None:
            data = np.moveaxis(np.asarray(self.colormap)[:, data[..., 0]], 0, -1)  # (3, h, w) -> (h, w, 3), 16 bits
        elif self.photometric == "MINISWHITE":
            data = ~data if data.dtype == bool else np.iinfo(data.dtype).max - data
        return to_rgb(data)


def _not_one_image(what: str, path: Path) -> DataError:
    return DataError(
        f"the TIFF has {what}, expected one RGB or gray plane", where=path, todo="export the H&E image alone"
    )


def _lost_fields(file: Any) -> list[int]:
    """Return the fields that matter and that the first page has but tifffile could not read (it only logs that)."""
    page, layout = file.pages[0], file.tiff
    file.filehandle.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, file.filehandle.read(layout.tagnosize))
    entries = file.filehandle.read(count * layout.tagsize)
    order = layout.byteorder
    codes = [struct.unpack_from(f"{order}H", entries, i * layout.tagsize)[0] for i in range(count)]
    return [code for code in codes if code in _FIELDS and code not in page.tags]


def _ome_side(pixels: dict[str, Any], axis: str) -> float | None:
    size, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
    return float(size) * _TO_UM[unit] if size is not None and unit in _TO_UM else None


def _tiff_mpp(file: Any, path: Path) -> float | None:
    """Return µm/px from OME, Aperio or ImageJ metadata, or from the resolution tags when they can be meant."""
    import tifffile

    page = file.pages[0]
    if file.is_ome and file.ome_metadata:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        return square(_ome_side(pixels, "X"), _ome_side(pixels, "Y"), path)
    stated = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description or "")
    if stated:
        return float(stated.group(1))
    tags = page.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    x, y = (below / above if above else 0.0 for above, below in (tags[f"{a}Resolution"].value for a in "XY"))
    unit = (file.imagej_metadata or {}).get("unit", "") if file.is_imagej else ""
    unit = unit.encode().decode("unicode_escape") if unit.isascii() else unit  # ImageJ writes \u00B5m
    if unit in _TO_UM:
        x, y = x * _TO_UM[unit], y * _TO_UM[unit]
    elif "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == _CENTIMETRE:
        x, y = x * 1e4, y * 1e4
    else:
        return None
    # Inches, and sizes beyond these, are a printer's default.
    return square(x, y, path) if 0.05 <= x <= 10 else None
