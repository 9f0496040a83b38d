"""Where the pixels of a slide come from: one small class a family of file formats."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from stzoo.core.errors import DataError

Pixels = npt.NDArray[np.uint8]

WHOLE_SLIDE = {".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide"}
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP"}
_TO_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}


class Source(Protocol):
    """Pixels at one or more resolutions.

    ``shapes`` are (height, width) of each level, the full resolution first; ``mpp`` is µm/px of level 0 or None.
    """

    shapes: Sequence[tuple[int, int]]
    mpp: float | None

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Return uint8 (bottom - top, right - left, 3); the box lies inside the level."""


def open_source(path: Path) -> Source:
    """Open an image file, choosing by its content (by its suffix for whole-slide formats).

    Raises
    ------
    DataError
        The file is missing, is not an image, or needs an extra that is not installed.
    """
    if not path.exists():
        raise DataError(f"no such image: {path}", todo="check the path")
    if path.suffix.lower() in WHOLE_SLIDE:
        return WholeSlideSource(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise DataError(f"can not read the image: {error.strerror}", where=path) from error
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return TiffSource(path)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return RasterSource(path, kind)
    raise DataError("not an image that stzoo reads", where=path, todo="give JPEG, PNG, TIFF or a whole-slide file")


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


class RasterSource:
    """JPEG, PNG and BMP through Pillow: decoded whole, once, on first use (these formats have no tiles)."""

    mpp: float | None = None

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None
        image = self._open()
        self.shapes = [(image.height, image.width)]
        if 0 in self.shapes[0]:
            raise DataError("the image has no pixels", where=path)

    def _open(self) -> Any:
        # The format's own class instead of Image.open: that one refuses images of the size of a slide
        # (its guard against decompression bombs), and can only be told otherwise for the whole process.
        from PIL import Image

        Image.init()
        factory = Image.OPEN[self._kind][0]
        try:
            return factory(self._path.open("rb"), str(self._path))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"not a readable {self._kind} image: {error}", where=self._path) from error

    def thumbnail(self, height: int, width: int) -> Pixels | None:
        """Decode a JPEG at a coarser scale of at least this size, without the full image; None for other formats."""
        if self._kind != "JPEG" or self._pixels is not None:
            return None
        image = self._open()
        image.draft("RGB", (width, height))
        return self._decode(image)

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Slice the decoded image."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode(self._open())
        return self._pixels[top:bottom, left:right]

    def _decode(self, image: Any) -> Pixels:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(
                f"the image is damaged: {error}", where=self._path, todo="copy or download it again"
            ) from error
        if image.mode.startswith("I"):
            return to_rgb(np.asarray(image).astype(np.uint16))
        if image.mode in ("RGBA", "LA", "PA", "P"):
            return to_rgb(np.asarray(image.convert("RGBA")))
        return np.asarray(image.convert("RGB"))


class TiffSource:
    """TIFF, OME-TIFF and pyramids through tifffile: only the tiles that a region needs are decoded."""

    def __init__(self, path: Path) -> None:
        import tifffile

        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = tifffile.TiffFile(path)
            series = self._file.series[0]
            self._axes = series.axes
            levels = [level for level in series.levels if level.axes == series.axes]
            self._arrays = [_as_array(level) for level in levels]
            self.mpp = _tiff_mpp(self._file)
        except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError, RuntimeError) as error:
            raise DataError(f"not a readable TIFF: {error}", where=path) from error
        y, x = self._axes.find("Y"), self._axes.find("X")
        if y < 0 or x < 0 or any(self._axes[i] not in "YXSC" for i in range(len(self._axes))):
            raise DataError(
                f"the TIFF has axes {self._axes}, expected one RGB or gray plane",
                where=path,
                todo="export the H&E image alone",
            )
        self.shapes = [(int(a.shape[y]), int(a.shape[x])) for a in self._arrays]

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Decode the tiles under a box."""
        box = {"Y": slice(top, bottom), "X": slice(left, right)}
        index = tuple(box.get(axis, slice(None)) for axis in self._axes)
        try:
            with self._lock:
                data = np.asarray(self._arrays[level][index])
        except Exception as error:
            raise DataError(
                f"the TIFF is damaged: {error}", where=self._path, todo="copy or download it again"
            ) from error
        channel = next((axis for axis in self._axes if axis in "SC"), None)
        if channel is not None:
            data = np.moveaxis(data, self._axes.index(channel), -1)
        return to_rgb(data)


class WholeSlideSource:
    """Whole-slide formats through openslide, or tiffslide where openslide is absent (extra ``wsi``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        library, opener = _whole_slide_library(path)
        try:
            self._slide: Any = opener(str(path))
        except Exception as error:
            raise DataError(f"{library} can not read the slide: {error}", where=path) from error
        self.shapes = [(int(h), int(w)) for w, h in self._slide.level_dimensions]
        mpp = self._slide.properties.get(f"{library}.mpp-x")
        self.mpp = float(mpp) if mpp else None

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a box; transparent pixels are white."""
        scale_x = self.shapes[0][1] / self.shapes[level][1]
        scale_y = self.shapes[0][0] / self.shapes[level][0]
        corner = (round(left * scale_x), round(top * scale_y))
        return to_rgb(np.asarray(self._slide.read_region(corner, level, (right - left, bottom - top))))


def to_rgb(data: npt.NDArray[Any]) -> Pixels:
    """Return any image array as uint8 (h, w, 3): gray is repeated, 16 bits scaled, transparency laid on white."""
    if data.dtype == np.uint16:
        data = (data // 257).astype(np.uint8)
    elif data.dtype == bool:
        data = data.astype(np.uint8) * 255
    elif data.dtype != np.uint8:
        raise DataError(f"the image has {data.dtype} pixels, expected 8 or 16 bits")
    if data.ndim == 2:
        data = data[..., None]
    if data.shape[-1] == 1:
        return np.repeat(data, 3, axis=-1)
    if data.shape[-1] == 4:
        alpha = data[..., 3:].astype(np.float32) / 255
        return np.rint(data[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if data.shape[-1] != 3:
        raise DataError(f"the image has {data.shape[-1]} channels, expected gray, RGB or RGBA")
    return data


def _as_array(level: Any) -> Any:
    import zarr

    return zarr.open_array(store=level.aszarr(), mode="r")


def _tiff_mpp(file: Any) -> float | None:
    import tifffile

    if file.ome_metadata:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        size, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm")
        return float(size) * _TO_UM[unit] if size and unit in _TO_UM else None
    page = file.pages[0]
    stated = re.search(r"MPP\s*=\s*([\d.]+)", page.description or "")
    if stated:
        return float(stated.group(1))
    tags = page.tags
    if "XResolution" in tags and "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == 3:
        above, below = tags["XResolution"].value
        mpp = 1e4 * below / above if above else 0.0
        return mpp if 0.05 <= mpp <= 50 else None  # an inch unit, or a size beyond these, is a printer's default
    return None


def _whole_slide_library(path: Path) -> tuple[str, Any]:
    for library, attribute in (("openslide", "OpenSlide"), ("tiffslide", "TiffSlide")):
        try:
            return library, getattr(importlib.import_module(library), attribute)
        except ImportError:
            continue
    raise DataError(f"{path.suffix} slides need openslide or tiffslide", where=path, todo="pip install 'stzoo[wsi]'")
