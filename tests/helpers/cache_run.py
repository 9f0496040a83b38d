"""Runs in processes of their own, for slides/test_tile_cache.py: ``python cache_run.py FOLDER SLIDE COUNT [SLEEP]``.

Fills a cache with COUNT tiles of a slide and prints the peak of this process's own memory above that before, KiB.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.tile_cache import Kind, Spots, cache_rows, tile_rows

SIZE_PX, MPP = 64, 1.0


def spots(path: Path, count: int) -> Spots:
    """Places all over a slide, in random order, some of them across its border."""
    slide = Slide.open(path, mpp=0.5)
    places = np.random.default_rng(0).uniform(0, [slide.width, slide.height], (count, 2))
    return Spots("made", slide, places)


def fill(folder: Path, path: Path, count: int, sleep: float = 0.0) -> int:
    peak = own_memory()
    tiles = tile_rows(SIZE_PX, MPP)

    def read(slide, centres):
        time.sleep(sleep)  # so that there is time to be killed
        found = tiles.read(slide, centres)
        nonlocal peak
        peak = max(peak, own_memory())
        return found

    cache_rows(folder, [spots(path, count)], Kind(tiles.about, tiles.shape, tiles.dtype, read))
    return peak


def own_memory() -> int:
    """Return what this process holds besides pages of files (the system takes those back when it likes), KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


if __name__ == "__main__":
    folder, path, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    spots(path, 4).slide.tiles([[100.0, 100.0]], size_px=SIZE_PX, mpp=MPP)  # what imports and codecs take is there now
    before = own_memory()
    print(fill(folder, path, count, float(sys.argv[4]) if len(sys.argv) > 4 else 0.0) - before)
