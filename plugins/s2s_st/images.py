"""Natural images for co-training: any folder of photographs, as random crops in gray (specification, section 2.3)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from stzoo import DataError
from stzoo.core.arrays import Pixels
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LEAST = 128
"""Shortest side of an image, px (specification A11)."""


@dataclass(frozen=True)
class NaturalImages:
    """Gray images in memory.

    Parameters
    ----------
    images
        uint8 (h, w) each, of any size.
    digest
        SHA-256 of their pixels.
    """

    images: tuple[Pixels, ...]
    digest: str

    @classmethod
    def of(cls, images: Sequence[Pixels]) -> NaturalImages:
        """Wrap images that are in memory already."""
        found = hashlib.sha256()
        for image in images:
            found.update(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes())
        return cls(tuple(images), found.hexdigest())

    @classmethod
    def read(cls, folder: Path) -> NaturalImages:
        """Read every PNG, JPEG and TIFF of a folder and its subfolders; other files are skipped.

        Raises
        ------
        DataError
            There is none, or one can not be read or has a side below 128 px (the file is named).
        """
        paths = list(_list_paths(Path(folder)))
        if not paths:
            todo = f"give a folder with photographs ({', '.join(SUFFIXES)})"
            raise DataError("no natural image was found", where=folder, todo=todo)
        return cls.of([_read(path) for path in paths])

    def require(self, side: int) -> None:
        """Refuse images from which no window of this side can be cropped (they need twice the side).

        Raises
        ------
        DataError
            With the smallest image.
        """
        least = min(min(image.shape) for image in self.images)
        if least < 2 * side:
            raise DataError(
                f"a natural image has a side of {least} px, and windows of {side} need {2 * side}",
                todo="remove small images, or give a smaller train.window",
            )

    def draw_crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Draw random crops, float32 (count, 1, side, side) in [0, 1].

        An image at random; a crop of twice the side; each mirroring with probability 1/2; a rotation by an angle in
        ±90°, nearest value; the centre. Everything random comes from ``generator``.
        """
        return torch.stack([self._draw_crop(side, generator) for _ in range(count)])[:, None]

    def _draw_crop(self, side: int, generator: torch.Generator) -> Tensor:
        image = self.images[_draw(len(self.images), generator)]
        i, j = (_draw(n - 2 * side + 1, generator) for n in image.shape)
        wide = torch.from_numpy(image[i : i + 2 * side, j : j + 2 * side].astype(np.float32) / 255)
        mirrored = turn_and_mirror(wide, (0, 4, 6, 2)[_draw(4, generator)])  # as it is, left-right, up-down, both
        angle = (float(torch.rand((), generator=generator)) - 0.5) * math.pi
        return cut_turned_centre(mirrored, angle, side).clamp(0, 1)


def turn_and_mirror(x: Tensor, pose: int) -> Tensor:
    """Rotate (..., p, p) by ``pose % 4`` quarter turns; poses from 4 on are reflected first."""
    return torch.rot90(x.flip(-1) if pose >= 4 else x, pose % 4, dims=(-2, -1))


def cut_turned_centre(wide: Tensor, angle: float, side: int) -> Tensor:
    """Return the centre (side, side) of a square (2 side, 2 side) turned by ``angle`` radians, nearest value."""
    at = torch.arange(side) - (side - 1) / 2
    y, x = at[:, None], at[None, :]
    middle = (len(wide) - 1) / 2 + 0.5  # rounds halves up
    rows = (math.cos(angle) * y - math.sin(angle) * x + middle).floor().long()
    cols = (math.sin(angle) * y + math.cos(angle) * x + middle).floor().long()
    return wide[rows, cols]


def _draw(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def _list_paths(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield path


def _read(path: Path) -> Pixels:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                gray = (np.asarray(image) >> 8).astype(np.uint8)
            else:
                gray = np.array(image.convert("L"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"can not read a natural image: {error}", where=path, todo="remove or replace it") from error
    if min(gray.shape) < LEAST:
        size = f"{gray.shape[1]} x {gray.shape[0]} px"
        raise DataError(f"a natural image has {size}, and {LEAST} a side are needed", where=path, todo="remove it")
    return gray
