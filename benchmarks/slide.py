"""Tiles a second of ``Slide.tiles`` on real H&E, beside crop and resize with Pillow and tifffile, in one run.

Run ``python benchmarks/slide.py --data ../shared/data/her2st`` in an environment with stzoo; it writes
``benchmarks/results/slide.json``. Both sides take turns on the same spots, and the better of several rounds counts.

- JPEG: both sides hold the decoded image; Pillow does ``image.resize(size, BOX or BILINEAR, box=...)``.
- TIFF: an 8-bit RGB OME-TIFF of the middle of the same image (256-px tiles, JPEG-compressed, three levels); tifffile
  reads ``zarr.open_array(series.aszarr(level=k))[...]``, the level that
  ``Slide`` takes too, and Pillow resizes. Every round opens the file anew.
- First tile: opening the file included. Peak memory: of a process that reads 20 tiles at one place.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse  # noqa: F401 - imported here, so that no side pays for it
import tifffile
import zarr
from PIL import Image
from stzoo.core.slides.slide import Slide

RESULTS = Path(__file__).parent / "results" / "slide.json"
MPP, SIZE_PX, TARGETS = 0.69, 224, (0.5, 1.0, 2.0)
Array = np.ndarray[Any, np.dtype[Any]]
Tile = Callable[[float, float, float], Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/her2st"))
    parser.add_argument("--tiles", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--peak", nargs=2, metavar=("SIDE", "FILE"), help="used by the benchmark itself")
    options = parser.parse_args()
    if options.peak:
        print(peak_here(*options.peak))
        return
    jpeg = options.data / "images" / "C5.jpg"
    with tempfile.TemporaryDirectory() as folder:
        tiff = write_pyramid(jpeg, Path(folder) / "c5.ome.tif")
        rows = [row for path in (jpeg, tiff) for row in compare(path, options.tiles, options.rounds)]
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    result = {"machine": machine, "tile_px": SIZE_PX, "tiles": options.tiles, "rounds": options.rounds, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


def compare(path: Path, tiles: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row a target µm/px, and one for the first tile and the peak memory."""
    ours, first_ours = timed(lambda: slide_tile(path))
    theirs, first_theirs = timed(lambda: library_tile(path))
    width, height = Slide.open(path, mpp=MPP).width, Slide.open(path, mpp=MPP).height
    grid = math.ceil(math.sqrt(tiles))
    spots = [
        (width * (0.3 + 0.4 * i / grid), height * (0.3 + 0.4 * j / grid)) for i in range(grid) for j in range(grid)
    ]
    rows: list[dict[str, Any]] = []
    for mpp in TARGETS:
        best = [math.inf, math.inf]
        for _ in range(rounds):
            if path.suffix != ".jpg":  # nothing decoded is left from the round before
                ours, theirs = slide_tile(path), library_tile(path)
            for k, side in enumerate((ours, theirs)):
                start = time.perf_counter()
                for x, y in spots[:tiles]:
                    side(x, y, mpp)
                best[k] = min(best[k], time.perf_counter() - start)
        differ = np.abs(ours(*spots[0], mpp).astype(int) - theirs(*spots[0], mpp)).mean()
        rate, other = tiles / best[0], tiles / best[1]
        rows.append(
            {
                "file": path.name, "mpp": mpp, "slide_tiles_s": round(rate), "library_tiles_s": round(other),
                "ratio": round(rate / other, 2), "mean_difference": round(float(differ), 2),
            }
        )  # fmt: skip
    peaks = [peak(side, path) for side in ("slide", "library")]
    rows.append(
        {
            "file": path.name, "first_tile_s": round(first_ours, 3), "library_first_tile_s": round(first_theirs, 3),
            "peak_mib": peaks[0], "library_peak_mib": peaks[1],
        }
    )  # fmt: skip
    return rows


def timed(make: Callable[[], Tile]) -> tuple[Tile, float]:
    start = time.perf_counter()
    side = make()
    side(3000, 3000, 1.0)
    return side, time.perf_counter() - start


def slide_tile(path: Path) -> Tile:
    slide = Slide.open(path, mpp=MPP)
    return lambda x, y, mpp: slide.tiles([[x, y]], size_px=SIZE_PX, mpp=mpp)[0]


def library_tile(path: Path) -> Tile:
    """Return what a careful user would write without stzoo."""
    if path.suffix == ".jpg":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
        return lambda x, y, mpp: pillow_tile(image, x, y, mpp / MPP, mpp >= MPP)
    series = tifffile.TiffFile(path).series[0]
    levels = [zarr.open_array(store=series.aszarr(level=k), mode="r") for k in range(len(series.levels))]

    def tile(x: float, y: float, mpp: float) -> Array:
        level = max(k for k in range(len(levels)) if k == 0 or 2**k * MPP <= mpp * 1.01)
        factor = mpp / MPP / 2**level
        x, y, half = x / 2**level, y / 2**level, SIZE_PX * factor / 2
        x0, y0, x1, y1 = int(x - half), int(y - half), math.ceil(x + half), math.ceil(y + half)
        patch = Image.fromarray(np.asarray(levels[level][y0:y1, x0:x1]))
        return pillow_tile(patch, x - x0, y - y0, factor, factor >= 1)

    return tile


def pillow_tile(image: Image.Image, x: float, y: float, factor: float, shrink: bool) -> Array:
    half = SIZE_PX * factor / 2
    how = Image.Resampling.BOX if shrink else Image.Resampling.BILINEAR
    return np.asarray(image.resize((SIZE_PX, SIZE_PX), how, box=(x - half, y - half, x + half, y + half)))


def write_pyramid(jpeg: Path, path: Path) -> Path:
    """Write the middle of the image as a tiled, JPEG-compressed OME-TIFF with three levels."""
    whole = Slide.open(jpeg, mpp=MPP)
    options: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "jpeg"}
    sizes = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as out:
        out.write(whole.read(1536, 1536, 6144, 6144), subifds=2, metadata=sizes, **options)
        for k in (2, 4):
            out.write(whole.read(1536, 1536, 6144, 6144, mpp=MPP * k), subfiletype=1, metadata=None, **options)
    return path


def peak(side: str, path: Path) -> int:
    command = [sys.executable, __file__, "--peak", side, str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_here(side: str, path: str) -> int:
    """Return by how many MiB reading 20 tiles raises the peak of this process."""
    before = high_water()
    tile = (slide_tile if side == "slide" else library_tile)(Path(path))
    for k in range(20):
        tile(3000 + 10 * k, 3000, 1.0)
    return (high_water() - before) // 1024


def high_water() -> int:
    """Return the peak resident memory of this process, KiB (getrusage would count the parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
