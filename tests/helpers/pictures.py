"""Pictures that look a little like tissue, and TIFF layouts to write them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from stzoo.core.slides.slide import Slide

H, W = 190, 250


def tissue(height: int = H, width: int = W, seed: int = 0) -> np.ndarray:
    """Smooth colour and some noise, so that JPEG keeps it and a shifted or mirrored read is seen."""
    y, x = np.mgrid[:height, :width] / 40
    planes = [np.sin(x * 1.3 + y), np.cos(y * 1.7 - x / 2), np.sin(x * y / 3)]
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    return np.clip(np.stack(planes, axis=-1) * 90 + 140 + noise, 0, 255).astype(np.uint8)


RGB = tissue()
OME = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"}


def whole(slide: Slide) -> np.ndarray:
    return slide.read(0, 0, slide.width, slide.height)


TIFF = {
    "one-strip": {},
    "plain-strips": {"rowsperstrip": 7},
    "strips": {"rowsperstrip": 7, "compression": "deflate"},
    "lzw-predictor": {"rowsperstrip": 16, "compression": "lzw", "predictor": True},
    "tiles": {"tile": (64, 48)},
    "tiles-zstd-bigtiff": {"tile": (64, 64), "compression": "zstd", "bigtiff": True},
    "big-endian": {"tile": (32, 32), "byteorder": ">"},
    "jpeg-tiles": {"tile": (64, 64), "compression": "jpeg"},
    "jpeg-ycbcr": {"tile": (64, 64), "compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg2000": {"tile": (64, 64), "compression": "jpeg2000"},
}


def write_pyramid(path: Path, image: np.ndarray, *, subifds: bool = True, levels: int = 2) -> list[np.ndarray]:
    """Write an OME-TIFF (SubIFDs) or a plain multi-page pyramid; return the levels, area-averaged."""
    made = [image]
    for _ in range(levels):
        last = made[-1][: made[-1].shape[0] // 2 * 2, : made[-1].shape[1] // 2 * 2].astype(float)
        half = last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2, 3).mean((1, 3))
        made.append(np.rint(half).astype(np.uint8))
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}
    with tifffile.TiffWriter(path, ome=subifds, bigtiff=subifds) as out:
        out.write(image, subifds=levels if subifds else None, metadata=OME if subifds else None, **options)
        for level in made[1:]:
            out.write(level, subfiletype=1, metadata=None, **options)
    return made
