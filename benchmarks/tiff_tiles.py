"""Boxes and levels out of TIFF files: our decoder (``core/slides/tiff.py``) beside tifffile's zarr store, in one run.

``python benchmarks/tiff_tiles.py --shared ../shared/data`` writes ``benchmarks/results/tiff_tiles.json``. Files: the
SVS slides of ``SHARED/slides``, and her2st C2 written as TIFF with JPEG tiles of 256 and 512 px and as LZW strips of 64
rows (a tissue drawn by stzoo where the data are not there).

- ``spots``: boxes of 325 px (a spot's tile of 224 px at 1 µm/px, of an image at 0.69 µm/px) on a lattice of 100 µm, in
  the order in which the training cache asks for them: neighbours share tiles of the file. The first 300 of them.
- ``random``: as many boxes anywhere.
- ``level``: the whole full resolution at once.

All ways have to give the same pixels. ``ratio`` is CPU seconds of the store over ours, each the best of ROUNDS that
take turns: above 1 ours is cheaper. ``store``: a zarr array over tifffile's store, opened once a round.
``store_cached``: the same behind zarr's (experimental) ``CacheStore`` of as many bytes of decoded tiles as ours keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.tiff import CACHE_BYTES, TiffSource
from stzoo.core.slides.tile_cache import along_a_curve
from zarr.experimental.cache_store import CacheStore
from zarr.storage import MemoryStore

RESULTS = Path(__file__).parent / "results" / "tiff_tiles.json"
ROUNDS, SIDE, PITCH, MOST = 2, 325, 145, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        files = sorted(options.shared.glob("slides/*.svs")) + written(options.shared, Path(name))
        rows = [row for file in files for row in measured(file)]
    versions = {"tifffile": tifffile.__version__, "zarr": zarr.__version__, "python": platform.python_version()}
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    options.out.write_text(json.dumps({"machine": machine | versions, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def written(shared: Path, folder: Path) -> list[Path]:
    """Write one image as tiles and strips."""
    jpeg = shared / "her2st" / "images" / "C2.jpg"
    slide = Slide.open(jpeg) if jpeg.is_file() else synthetic_section(side_um=6000).require_slide()
    pixels = slide.read(0, 0, slide.width, slide.height)
    kinds: dict[str, dict[str, Any]] = {
        "jpeg-256.tif": {"tile": (256, 256), "compression": "jpeg"},
        "jpeg-512.tif": {"tile": (512, 512), "compression": "jpeg"},
        "lzw-strips.tif": {"rowsperstrip": 64, "compression": "lzw"},
    }
    for name, kind in kinds.items():
        tifffile.imwrite(folder / name, pixels, photometric="rgb", **kind)
    return [folder / name for name in kinds]


def measured(file: Path) -> list[dict[str, Any]]:
    """Return a row for each job."""
    height, width = TiffSource(file).shapes[0]
    grid = np.meshgrid(np.arange(0, width - SIDE, PITCH), np.arange(0, height - SIDE, PITCH))
    lattice = np.stack(grid, axis=-1).reshape(-1, 2).astype(float)
    spots = lattice[along_a_curve(lattice)].astype(int)[:MOST]
    anywhere = np.random.default_rng(0).integers(0, (width - SIDE, height - SIDE), spots.shape)
    whole = np.array([[0, 0]])
    jobs = {"spots": (spots, (SIDE, SIDE)), "random": (anywhere, (SIDE, SIDE)), "level": (whole, (height, width))}
    rows = []
    for job, (corners, size) in jobs.items():
        seconds: dict[str, list[float]] = {}
        sums: dict[str, int] = {}
        for _ in range(ROUNDS):
            for name, opened in WAYS.items():
                read = opened(file)  # not timed: once a file
                began = time.process_time()
                total = sum(int(box(read, x, y, *size)[::7, ::7].sum()) for x, y in corners)
                seconds.setdefault(name, []).append(time.process_time() - began)
                sums[name] = total
        assert len(set(sums.values())) == 1, (file, job, sums)
        best = {name: min(found) for name, found in seconds.items()}
        ratios = {f"ratio_{name}": round(best[name] / best["ours"], 2) for name in WAYS if name != "ours"}
        row = {"file": file.name, "job": job, "boxes": len(corners)}
        rows.append(row | {f"{name}_cpu_s": round(value, 3) for name, value in best.items()} | ratios)
        print(json.dumps(rows[-1]), flush=True)
    return rows


Region = Callable[[int, int, int, int], Any]


def box(read: Region, x: int, y: int, height: int, width: int) -> Any:
    return read(y, x, y + height, x + width)


def ours(file: Path) -> Region:
    source = TiffSource(file)
    return lambda top, left, bottom, right: source.region(0, top, left, bottom, right)


def store(file: Path) -> Region:
    array: Any = zarr.open_array(tifffile.imread(file, series=0, level=0, aszarr=True), mode="r")
    return lambda top, left, bottom, right: array[top:bottom, left:right]


def store_cached(file: Path) -> Region:
    decoded = tifffile.imread(file, series=0, level=0, aszarr=True)
    cached = CacheStore(decoded, cache_store=MemoryStore(), max_size=CACHE_BYTES)
    array: Any = zarr.open_array(cached, mode="r")
    return lambda top, left, bottom, right: array[top:bottom, left:right]


WAYS = {"ours": ours, "store": store, "store_cached": store_cached}

if __name__ == "__main__":
    main()
