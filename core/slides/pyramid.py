"""A slide inside a zarr store: a chunked pyramid in the layout of OME-Zarr 0.5, which napari and others open.

It stands in a folder ``slide/`` that is itself no zarr node, so that readers of the AnnData around it do not
stumble over it (anndata refuses unknown groups).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Pixels
from stzoo.core.errors import DataError
from stzoo.core.slides.base import ArraySource
from stzoo.core.slides.slide import Slide

FOLDER = Path("slide") / "pyramid"
_CHUNK, _SHARD, _SMALLEST = 512, 2048, 1024


class _PyramidLevel:
    """A zarr array (3, h, w) that slices as (h, w, 3), as slides do."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[0]))
        self.dtype = array.dtype

    def __getitem__(self, box: tuple[slice, slice]) -> Pixels:
        try:
            return np.moveaxis(np.asarray(self._array[:, box[0], box[1]]), 0, -1)
        except (OSError, RuntimeError, ValueError) as error:  # what zarr and its codecs raise on damaged chunks
            raise DataError(
                f"the slide in the store is damaged: {error}",
                where=str(self._array.store_path),
                todo="convert the section again",
            ) from error


def write_pyramid(slide: Slide, store: Path) -> None:
    """Write a slide: every pixel of its file, and halved levels. Memory is that of a few blocks of 2048 x 2048 px.

    Parameters
    ----------
    slide
        The slide; of a reduced copy (``scale`` below 1) the reduced pixels are kept.
    store
        The zarr store to put it in.
    """
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr announces defaults of its next version
        group = zarr.open_group(store / FOLDER, mode="w", zarr_format=3)
        shape = round(slide.height * slide.scale), round(slide.width * slide.scale)
        level = _create(group, 0, shape)
        if slide.scale == 1.0:
            for top, left, height, width in _blocks(shape):
                _put(level, top, left, slide.read(left, top, width, height))
        else:
            _put(level, 0, 0, slide.thumbnail(max(shape))[0][: shape[0], : shape[1]])
        levels = [level]
        while max(levels[-1].shape) > _SMALLEST:
            levels.append(_halve_level(group, len(levels), levels[-1]))
        group.attrs["ome"] = _metadata(slide, levels)


def open_pyramid(store: Path, *, mpp: float | None, scale: float) -> Slide | None:
    """Return the slide kept in a zarr store, or None where there is none; pixels are read when asked for.

    Raises
    ------
    DataError
        The pyramid is damaged.
    """
    import zarr

    folder = store / FOLDER
    if not folder.is_dir():
        return None
    try:
        group = zarr.open_group(folder, mode="r")
        ome: Any = group.attrs["ome"]
        arrays = [group[entry["path"]] for entry in ome["multiscales"][0]["datasets"]]
        for array in arrays:
            _require_chunks(folder / array.basename, array)
        levels = [_PyramidLevel(array) for array in arrays]
        return Slide(ArraySource(*levels), mpp=mpp, scale=scale)
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            f"the slide in the store is damaged: {error}", where=folder, todo="convert the section again"
        ) from error


def _require_chunks(folder: Path, array: Any) -> None:
    # zarr reads a chunk that is not there as black; all are written, so one that is missing was lost.
    sides = array.shards or array.chunks
    wanted = math.prod(-(-length // side) for length, side in zip(array.shape, sides, strict=True))
    found = sum(1 for file in (folder / "c").rglob("*") if file.is_file())
    if found < wanted:
        raise ValueError(f"{wanted - found} of {wanted} chunks of level {array.basename} are missing")


def _create(group: Any, level: int, shape: tuple[int, int]) -> Any:
    shards = (3, _SHARD, _SHARD) if max(shape) > _SHARD else None
    return group.create_array(
        str(level),
        shape=(3, *shape),
        dtype="uint8",
        chunks=(3, _CHUNK, _CHUNK),
        shards=shards,
        config={"write_empty_chunks": True},
        dimension_names=("c", "y", "x"),
    )


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield top, left, height and width of the blocks that are stored as one file each."""
    for top in range(0, shape[0], _SHARD):
        for left in range(0, shape[1], _SHARD):
            yield top, left, min(_SHARD, shape[0] - top), min(_SHARD, shape[1] - left)


def _put(level: Any, top: int, left: int, pixels: Pixels) -> None:
    level[:, top : top + pixels.shape[0], left : left + pixels.shape[1]] = np.moveaxis(pixels, -1, 0)


def _halve_level(group: Any, number: int, finer: Any) -> Any:
    shape = -(-finer.shape[1] // 2), -(-finer.shape[2] // 2)
    level = _create(group, number, shape)
    for top, left, height, width in _blocks(shape):
        block: Pixels = finer[:, 2 * top : 2 * (top + height), 2 * left : 2 * (left + width)]
        edge = [(0, 0), (0, block.shape[1] % 2), (0, block.shape[2] % 2)]
        wide = np.pad(block, edge, mode="edge").astype(np.uint16)
        total = wide[:, ::2, ::2] + wide[:, 1::2, ::2] + wide[:, ::2, 1::2] + wide[:, 1::2, 1::2]
        level[:, top : top + height, left : left + width] = ((total + 2) // 4).astype(np.uint8)
    return level


def _metadata(slide: Slide, levels: list[Any]) -> dict[str, Any]:
    unit = {} if slide.mpp is None else {"unit": "micrometer"}
    pixel = 1.0 if slide.mpp is None else slide.mpp / slide.scale
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [{"type": "scale", "scale": [1.0, *[pixel * 2.0**number] * 2]}],
        }
        for number in range(len(levels))
    ]
    axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space", **unit} for name in "yx")]
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
