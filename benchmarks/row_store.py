"""Rows of the training cache: our file (``core/runtime/row_file.py``) beside a zarr v3 array, in one run.

``python benchmarks/row_store.py --data ../shared/data/her2st`` writes ``benchmarks/results/row_store.json``. The rows
are the tiles of her2st C4 as CoMTIP caches them (224 px at 1 µm/px, three views a spot; a tissue drawn by stzoo where
the data are not there). Both ways check what they read by a crc32 (zarr: the codec ``crc32c``), neither compresses.

- ``write``: all rows in the blocks and the order of the cache: 16 rows that follow Hilbert's curve, and not each other
  in the file. Ours also takes the room first and forces the rows to the disk before it records them.
- ``random_first``: batches of 64 random rows, as training draws them, each row for the first time.
- ``random_again``: the same batches; ours checks a row once, zarr at every reading.
- ``blocks``: 64 rows that follow each other.
- ``row_by_row``: the random batches, read as ``array[i]`` row by row, which some versions of zarr do faster.

zarr has a chunk of 1, 16 or 64 rows. ``ratio`` is CPU seconds of zarr over ours, each the best of ROUNDS that take
turns: above 1 ours is cheaper. ``files`` and ``bytes`` are what lies on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from stzoo.core.io.read import read
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.runtime.row_file import RowFile, Writer
from stzoo.core.slides.tile_cache import BLOCK, along_a_curve, tile_rows
from zarr.codecs import BytesCodec, Crc32cCodec

RESULTS = Path(__file__).parent / "results" / "row_store.json"
ROUNDS, BATCH, VIEWS, CHUNKS = 3, 64, 3, (1, 16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/her2st"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    tiles, order, source = the_tiles(options.data)
    ways: dict[str, Any] = {"ours": Ours(tiles), **{f"zarr_{k}": Zarr(tiles, k) for k in CHUNKS}}
    seconds: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=options.out.parent) as name:
        for number in range(ROUNDS):
            for way, store in ways.items():
                folder = Path(name) / f"{way}-{number}"
                for job, value in jobs(store, folder, tiles, order).items():
                    seconds.setdefault(job, {}).setdefault(way, []).append(value)
                found = [file for file in folder.rglob("*") if file.is_file()]
                facts[way] = {"files": len(found), "bytes": sum(file.stat().st_size for file in found)}
                shutil.rmtree(folder)
    result: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "zarr": zarr.__version__},
        "source": source, "rows": len(tiles), "row_bytes": tiles[0].nbytes, "stores": facts,
    }  # fmt: skip
    for job, ways_seconds in seconds.items():
        best = {way: min(values) for way, values in ways_seconds.items()}
        ratios = {f"ratio_{way}": round(value / best["ours"], 2) for way, value in best.items() if way != "ours"}
        result[job] = {f"{way}_cpu_s": round(value, 4) for way, value in best.items()} | ratios
        print(job, json.dumps(result[job]), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def the_tiles(data: Path) -> tuple[Any, Any, str]:
    """Return rows (n, 224, 224, 3), the order in which the cache writes them, and where they come from."""
    there = data.is_dir()
    section = read(f"{data}::C4", mpp=0.69) if there else synthetic_section(side_um=2000)
    slide, spots = section.require_slide(), section.pixels
    places = np.concatenate([spots + 20 * view for view in range(VIEWS)])
    order = along_a_curve(places)
    tiles = np.empty((len(places), 224, 224, 3), dtype=np.uint8)
    kind = tile_rows(224, 1.0)
    for start in range(0, len(order), BLOCK):
        tiles[order[start : start + BLOCK]] = kind.read(slide, places[order[start : start + BLOCK]])
    return tiles, order, "her2st C4" if there else "a tissue drawn by stzoo"


def jobs(store: Any, folder: Path, tiles: Any, order: Any) -> dict[str, float]:
    """Return CPU seconds of each job; what is read has to be what was written."""
    found = {"write": timed(lambda: store.write(folder, order))}
    random = np.random.default_rng(0).permutation(len(tiles))
    some = [random[i : i + BATCH] for i in range(0, len(random), BATCH)]
    rows = [np.arange(i, min(i + BATCH, len(tiles))) for i in range(0, len(tiles), BATCH)]
    read = store.open(folder)
    for name, batches in (("random_first", some), ("random_again", some), ("blocks", rows)):
        found[name] = timed(lambda batches=batches: [read(batch) for batch in batches])
    single = store.open_single(folder)
    found["row_by_row"] = timed(lambda: [np.stack([single(int(i)) for i in batch]) for batch in some])
    for batch in some[:3]:
        assert np.array_equal(read(batch), tiles[batch])
    return found


def timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


class Ours:
    """A :class:`RowFile`."""

    def __init__(self, tiles: Any) -> None:
        self.tiles = tiles

    def write(self, folder: Path, order: Any) -> None:
        """Write all rows."""
        rows = RowFile.create(folder, {}, self.tiles.shape, self.tiles.dtype)
        with Writer(rows) as writer:
            for start in range(0, len(order), BLOCK):
                index = order[start : start + BLOCK]
                writer.write(index, self.tiles[index])

    def open(self, folder: Path) -> Callable[[Any], Any]:
        """Return what reads rows."""
        return RowFile(folder).__getitem__

    def open_single(self, folder: Path) -> Callable[[int], Any]:
        """Return what reads one row."""
        rows = RowFile(folder)
        return lambda i: rows[[i]][0]


class Zarr:
    """A zarr v3 array of ``chunk`` rows a chunk, each with a crc32c."""

    def __init__(self, tiles: Any, chunk: int) -> None:
        self.tiles, self.chunk = tiles, chunk

    def write(self, folder: Path, order: Any) -> None:
        """Write all rows."""
        array: Any = zarr.create_array(
            folder,
            shape=self.tiles.shape,
            chunks=(self.chunk, *self.tiles.shape[1:]),
            dtype=self.tiles.dtype,
            filters=None,
            compressors=[Crc32cCodec()],
            serializer=BytesCodec(),
            zarr_format=3,
        )
        for start in range(0, len(order), BLOCK):
            index = order[start : start + BLOCK]
            array.oindex[np.sort(index)] = self.tiles[np.sort(index)]

    def open(self, folder: Path) -> Callable[[Any], Any]:
        """Return what reads rows."""
        array: Any = zarr.open_array(folder, mode="r")
        return lambda index: array.oindex[index]

    def open_single(self, folder: Path) -> Callable[[int], Any]:
        """Return what reads one row."""
        array: Any = zarr.open_array(folder, mode="r")
        return lambda i: array[i]


if __name__ == "__main__":
    main()
