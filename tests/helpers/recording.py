"""Sources of pixels that write down what a slide asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile
from stzoo.core.arrays import Pixels
from stzoo.core.slides.base import Source
from stzoo.core.slides.sources import RasterSource


class Recording:
    """A source behind which another one answers; ``asked`` has (level, top, left, bottom, right) of every region."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.asked: list[tuple[int, ...]] = []

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self.source.shapes

    @property
    def mpp(self) -> float | None:
        return self.source.mpp

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        self.asked.append((level, top, left, bottom, right))
        return self.source.region(level, top, left, bottom, right)


class RecordingJpeg(RasterSource):
    """A JPEG: ``asked`` has every region, which takes the whole image; ``coarse_shapes`` what was decoded small."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "JPEG", JpegImageFile)
        self.asked: list[tuple[int, ...]] = []
        self.coarse_shapes: list[tuple[int, int] | None] = []

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        self.asked.append((level, top, left, bottom, right))
        return super().region(level, top, left, bottom, right)

    def coarse(self, ratio: float) -> Pixels | None:
        found = super().coarse(ratio)
        self.coarse_shapes.append(None if found is None else (found.shape[0], found.shape[1]))
        return found
