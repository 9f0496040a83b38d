"""A training cache: what is read of the slide around every spot, kept on disk once, read a batch at a time after.

The slides are read by region, in an order in which neighbouring spots follow each other, so that a tile of the file
that several spots share is decoded once; the rows stand in the order of the spots. A cache is named by what is in it
(slides, places, size, µm/px), so that a second run with the same request finds it, and another request never does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Array, Indices, Points
from stzoo.core.errors import DataError, OutputError
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.row_file import RowFile, Writer
from stzoo.core.slides.slide import Slide

FORMAT_VERSION = 1
"""Version of the folder; another one is another cache."""
VARIABLE = "STZOO_CACHE"
BLOCK = 16
"""Spots read at a time by a thread."""
THREADS = 2
"""Decoding leaves Python's lock and so does most of resampling: one thread reads while the other computes."""
_BAND = 512
_BITS = 16


@dataclass(frozen=True)
class Spots:
    """Places on one slide.

    Parameters
    ----------
    name
        What to call it, e.g. the section.
    slide
        The slide.
    centres
        float64 (n, 2), x and y in pixels of the full resolution.
    """

    name: str
    slide: Slide
    centres: Points


@dataclass(frozen=True)
class Kind:
    """What is kept of a spot.

    Parameters
    ----------
    about
        JSON values that tell it from every other kind; part of the name of a cache.
    shape, dtype
        Of one spot's row.
    read
        Reads the rows (n, *shape) of centres (n, 2) from a slide; a row depends on its own centre only.
    """

    about: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[Slide, Points], Array]


def tile_rows(size_px: int, mpp: float) -> Kind:
    """Return the kind that keeps tiles as :meth:`Slide.tiles` gives them, uint8 (size_px, size_px, 3)."""
    about = {"kind": "tiles", "size_px": size_px, "mpp": mpp}
    shape = (size_px, size_px, 3)
    return Kind(about, shape, "uint8", lambda slide, centres: slide.tiles(centres, size_px=size_px, mpp=mpp))


def cache_folder(run: Path) -> Path:
    """Return where caches are kept: the folder in ``STZOO_CACHE``, shared by all runs, or the run's own ``cache``."""
    shared = os.environ.get(VARIABLE)
    return Path(shared) if shared else run / "cache"


def drop_own_cache(run: Path) -> None:
    """Remove the caches of a run that is done; those in ``STZOO_CACHE`` stay, for other runs."""
    shutil.rmtree(run / "cache", ignore_errors=True)


def cache_rows(
    folder: Path,
    spots: Sequence[Spots],
    kind: Kind,
    *,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> RowFile:
    """Return the rows of all spots, from the cache; what it lacks is read from the slides first.

    A read that is killed goes on where it was. Processes that want the same cache at once take turns: the first
    fills it.

    Parameters
    ----------
    folder
        Where caches are kept; each is a folder in it.
    spots
        Spots of each slide; the rows follow each other in this order.
    kind
        What is kept of a spot.
    about
        JSON values to note beside the rows, e.g. how the places were shifted; they are part of its name as well.
    progress
        Told how many rows are there.

    Returns
    -------
    (n, *kind.shape), read with ``rows[index]``. The file ``rows.npy`` in its folder is a plain array.

    Raises
    ------
    OutputError
        The folder can not be written, or the disk is full; what was written stays, and is used by the next run.
    DataError, UnitsError
        As :meth:`Slide.tiles`.
    """
    stated = _describe(spots, kind, about or {})
    shape = (sum(len(some.centres) for some in spots), *kind.shape)
    key = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f"{kind.about['kind']}-{key}"
    rows = RowFile.find(place, stated, shape, kind.dtype)
    if rows is None or not rows.written.all():
        with _alone(place):
            rows = RowFile.find(place, stated, shape, kind.dtype)  # another process may have filled it meanwhile
            rows = rows or RowFile.create(place, stated, shape, kind.dtype)
            _fill(rows, spots, kind, progress)
    return rows


def along_a_curve(centres: Points) -> Indices:
    """Return an order of places, intp (n,), in which neighbours are near each other (Hilbert's curve)."""
    if len(centres) == 0:
        return np.zeros(0, dtype=np.intp)
    low = centres.min(axis=0)
    side = max(float((centres - low).max()), 1.0)
    x, y = np.minimum((centres - low) / side * 2**_BITS, 2**_BITS - 1).astype(np.int64).T
    along = np.zeros(len(centres), dtype=np.int64)
    for bit in reversed(range(_BITS)):
        right, down = (x >> bit) & 1, (y >> bit) & 1
        along = 4 * along + ((3 * right) ^ down)
        flip = (down == 0) & (right == 1)
        x, y = np.where(flip, 2**_BITS - 1 - x, x), np.where(flip, 2**_BITS - 1 - y, y)
        x, y = np.where(down == 0, y, x), np.where(down == 0, x, y)
    return np.argsort(along, kind="stable")


def _fill(rows: RowFile, spots: Sequence[Spots], kind: Kind, progress: Progress | None) -> None:
    blocks = [block for block in _blocks(spots) if not rows.written[block.rows].all()]
    done = len(rows) - sum(len(block.rows) for block in blocks)
    with Writer(rows) as writer:
        for index, values in _ahead(lambda block: (block.rows, kind.read(block.slide, block.centres)), blocks):
            writer.write(index, values)
            done += len(index)
            if progress is not None:
                progress(done, len(rows))


@dataclass(frozen=True)
class _TileBlock:
    """Spots that are read together, and their rows."""

    slide: Slide
    centres: Points
    rows: Indices


def _blocks(spots: Sequence[Spots]) -> Iterator[_TileBlock]:
    """Yield all spots, slide after slide."""
    start = 0
    for some in spots:
        order = along_a_curve(some.centres)
        for first in range(0, len(order), BLOCK):
            picked = order[first : first + BLOCK]
            yield _TileBlock(some.slide, some.centres[picked], picked + start)
        start += len(order)


def _ahead(
    read: Callable[[_TileBlock], tuple[Indices, Array]], blocks: Iterable[_TileBlock]
) -> Iterator[tuple[Indices, Array]]:
    """Read blocks in threads, a few ahead of the writer: what bounds the memory."""
    waiting: deque[Future[tuple[Indices, Array]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for block in blocks:
                waiting.append(pool.submit(read, block))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold a lock on a cache; the system takes it back when the process ends, however it ends."""
    from filelock import FileLock

    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        todo = f"choose a folder that you may write to, or name one: {VARIABLE}=FOLDER"
        raise OutputError(f"can not write the cache: {error.strerror}", where=place.parent, todo=todo) from error
    try:
        yield
    finally:
        lock.release()


def _describe(spots: Sequence[Spots], kind: Kind, about: Mapping[str, Any]) -> dict[str, Any]:
    sections = [
        {
            "name": some.name,
            "slide": _slide_identity(some.slide),
            "spots": len(some.centres),
            "places_sha256": hashlib.sha256(some.centres.astype("<f8").tobytes()).hexdigest(),
        }
        for some in spots
    ]
    return {"format_version": FORMAT_VERSION, **kind.about, **about, "sections": sections}


def _slide_identity(slide: Slide) -> dict[str, Any]:
    """Return what changes when the slide does: file, size and time of change; without a file, a digest of pixels."""
    units = {"mpp": slide.mpp, "scale": slide.scale}
    if slide.path is not None:
        path = slide.path.resolve()
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"can not read the slide: {error.strerror}", where=path) from error
        return {"path": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, **units}
    digest = hashlib.sha256(f"{slide.width} x {slide.height}".encode())
    for top in range(0, slide.height, _BAND):
        digest.update(slide.read(0, top, slide.width, min(_BAND, slide.height - top)).tobytes())
    return {"pixels_sha256": digest.hexdigest(), **units}
