"""Where the pixels of a slide come from: one small class a family of file formats (TIFF: tiff.py)."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Pixels
from stzoo.core.errors import DataError
from stzoo.core.slides.base import DAMAGED, NeedsWholeSlideError, Source, square, to_rgb
from stzoo.core.slides.tiff import TiffSource

WHOLE_SLIDE = (".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm")
"""Suffixes that go to openslide or tiffslide; ``.svs`` is plain enough TIFF to be read without them."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_RASTER = {
    b"\xff\xd8\xff": ("JPEG", "PIL.JpegImagePlugin", "JpegImageFile"),
    b"\x89PNG": ("PNG", "PIL.PngImagePlugin", "PngImageFile"),
    b"BM": ("BMP", "PIL.BmpImagePlugin", "BmpImageFile"),
}
_COPY_PIXELS = 16_000_000  # well below Pillow's limit for a crop


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
    if not head:
        raise DataError("the image file is empty", where=path, todo=DAMAGED)
    if head.startswith(_TIFF):
        try:
            return TiffSource(path)
        except NeedsWholeSlideError:
            return WholeSlideSource(path)
    for magic, (kind, module, name) in _RASTER.items():
        if head.startswith(magic):
            return RasterSource(path, kind, getattr(importlib.import_module(module), name))
    raise DataError(
        f"not an image that stzoo reads (it starts with {head!r})",
        where=path,
        todo="give JPEG, PNG, BMP, TIFF or a whole-slide file",
    )


class RasterSource:
    """JPEG, PNG and BMP through Pillow: decoded whole, once, on first use (these formats have no tiles)."""

    mpp: float | None = None  # the dpi of a photograph is a printer's setting, never a microscope's scale

    def __init__(self, path: Path, kind: str, opener: Any) -> None:
        # The format's own class instead of Image.open: that one refuses images of the size of a slide
        # (its guard against decompression bombs), and can only be told otherwise for the whole process.
        self._path, self._kind, self._opener = path.absolute(), kind, opener
        self._lock = threading.Lock()
        self._pixels: Pixels | None = None
        self._coarse: tuple[int, Pixels] | None = None
        with self._path.open("rb") as file:
            image = self._header(file)
            self.shapes = [(int(image.height), int(image.width))]
        if 0 in self.shapes[0]:
            raise DataError(f"the image has {image.width} x {image.height} pixels", where=path)
        if kind == "JPEG":
            self._check_end()

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Slice the decoded image."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode(1)
        return self._pixels[top:bottom, left:right]

    def coarse(self, ratio: float) -> Pixels | None:
        """Return the whole of a JPEG at the coarsest of 1/2, 1/4 and 1/8 that has at least ``ratio`` of its pixels.

        The last one is kept. None for other formats, and where the full image is needed.
        """
        shrink = next((k for k in (8, 4, 2) if ratio * k <= 1.0), None)
        if self._kind != "JPEG" or shrink is None or min(self.shapes[0]) < 8 * shrink:
            return None
        with self._lock:
            if self._coarse is None or self._coarse[0] != shrink:
                self._coarse = (shrink, self._decode(shrink))
        return self._coarse[1]

    def _header(self, file: Any) -> Any:
        try:
            return self._opener(file, str(self._path))
        except (OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError) as error:
            raise DataError(f"not a readable {self._kind} image: {error}", where=self._path, todo=DAMAGED) from error

    def _check_end(self) -> None:
        """Refuse a JPEG without its end marker: an interrupted copy, which some decoders fill up with gray."""
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 65536))
            if b"\xff\xd9" not in file.read():
                raise DataError("the JPEG is truncated: its end is missing", where=self._path, todo=DAMAGED)

    def _decode(self, shrink: int) -> Pixels:
        with self._path.open("rb") as file:
            image = self._header(file)
            if self._kind == "JPEG" and shrink == 1 and image.mode in ("RGB", "L"):
                file.seek(0)
                pixels = self._turbo(file.read())
            else:
                if shrink > 1:  # takes the coarsest scale that has at least this size, and rounds sizes up
                    image.draft("RGB", (image.width // shrink, image.height // shrink))
                try:
                    image.load()
                except (OSError, SyntaxError, ValueError, EOFError) as error:
                    raise DataError(f"the image is damaged: {error}", where=self._path, todo=DAMAGED) from error
                pixels = _pillow_rgb(image)
        if self._kind == "JPEG" and (pixels[-1] == 128).all():
            # libjpeg decodes what is missing before a forged end marker to exactly this gray, without an error
            raise DataError("the JPEG is damaged: its lower part is missing", where=self._path, todo=DAMAGED)
        pixels.flags.writeable = False
        return pixels

    def _turbo(self, data: bytes) -> Pixels:
        """Decode a whole JPEG: the pixels of Pillow at half its memory, which stores 4 bytes a pixel and copies."""
        import imagecodecs

        try:
            return to_rgb(np.asarray(imagecodecs.jpeg8_decode(data)))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"the image is damaged: {error}", where=self._path, todo=DAMAGED) from error


class WholeSlideSource:
    """Whole-slide formats through openslide, or tiffslide where openslide is absent (extra ``wsi``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._library, module = _whole_slide_library(path)
        opener = module.OpenSlide if self._library == "openslide" else module.TiffSlide
        own = getattr(module, "OpenSlideError" if self._library == "openslide" else "TiffFileError", OSError)
        self._errors: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, own)
        try:
            self._slide: Any = opener(str(path))
        except self._errors as error:
            raise DataError(f"{self._library} can not read the slide: {error}", where=path, todo=DAMAGED) from error
        self.shapes = [(int(h), int(w)) for w, h in self._slide.level_dimensions]
        properties = self._slide.properties
        x, y = (_number(properties.get(f"{self._library}.mpp-{axis}")) for axis in "xy")
        self.mpp = square(x, y, path)

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a box; transparent pixels are white."""
        scale_x = self.shapes[0][1] / self.shapes[level][1]
        scale_y = self.shapes[0][0] / self.shapes[level][0]
        corner = (round(left * scale_x), round(top * scale_y))
        try:
            image = self._slide.read_region(corner, level, (right - left, bottom - top))
        except self._errors as error:
            raise DataError(f"the slide is damaged: {error}", where=self._path, todo=DAMAGED) from error
        return to_rgb(np.asarray(image))


def _pillow_rgb(image: Any) -> Pixels:
    """Return a loaded Pillow image as uint8 (h, w, 3), band by band (converted whole, it would be there thrice)."""
    height, width = image.height, image.width
    out = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _COPY_PIXELS // width)
    clear = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    for top in range(0, height, rows):
        band = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        if image.mode == "RGB" and not clear:
            out[top : top + rows] = np.asarray(band)
        elif image.mode.startswith("I"):
            out[top : top + rows] = to_rgb(np.asarray(band).astype(np.uint16))
        else:
            out[top : top + rows] = to_rgb(np.asarray(band.convert("RGBA" if clear else "RGB")))
    return out


def _number(text: object) -> float | None:
    try:
        return float(str(text)) if text else None
    except ValueError:
        return None


def _whole_slide_library(path: Path) -> tuple[str, Any]:
    for library in ("openslide", "tiffslide"):
        try:
            return library, importlib.import_module(library)
        except (ImportError, OSError):  # OSError: the Python part is there, the shared library is not
            continue
    raise DataError(f"{path.suffix} slides need openslide or tiffslide", where=path, todo="pip install 'stzoo[wsi]'")
