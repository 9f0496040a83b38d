"""Tiles a second from a slide into the training cache and back, beside the decoder's own limit, in one run.

``python benchmarks/tiles.py --data ../shared/data/her2st`` writes ``benchmarks/results/tiles.json`` (without the data
it draws a tissue instead, and says so). The places are a square lattice of 100 µm over the whole slide in random order,
as barcodes are; tiles are 224 px at 1 µm/px. CPU seconds are of the process, all threads.

- Sources: the JPEG itself, and tiled JPEG-compressed TIFF pyramids of it with tiles of 256 and 512 px.
- The limit: every file tile under any of the places is decoded once, through the same codec, in as many threads, and
  nothing else is done (JPEG: the image is decoded once). ``ratio`` is CPU seconds of the limit over ours.
- ``resampling_cpu_s``: the same tiles out of pixels in memory, so what is left when decoding is free;
  ``ratio_with_resampling``: CPU seconds of both over ours, so what order, threads, checksums and the disk leave.
- ``decoded_again``: file tiles decoded over those needed, in the order of the curve and in the order of the places.
- Reading back: random batches of 64, with the checksum of a row's first reading, after it, and with numpy's memmap.
- Memory: peak of what a process holds besides pages of files, while a slide gets 4 and 16 times larger.
- The share of a training step of CoMTIP that is spent on getting its batch (CPU seconds, one thread): ``read_share``
  is reading rows from the cache, each for the first time, and the rows of expression; ``share`` also turns bytes into
  the numbers that the network reads, which no second thread would take off a CPU that computes.

``--only into_the_cache,training`` measures some parts anew and keeps the others of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.tiff import TiffSource
from stzoo.core.slides.tile_cache import THREADS, Spots, along_a_curve, cache_rows, tile_rows

RESULTS = Path(__file__).parent / "results" / "tiles.json"
SIZE_PX, MPP, SLIDE_MPP, PITCH_UM = 224, 1.0, 0.69, 100.0
ROUNDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/her2st"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="parts to measure, with commas; by default all")
    parser.add_argument("--peak", type=Path, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.peak:
        print(peak_here(options.peak))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jpeg, source = the_jpeg(options.data, folder)
        parts: dict[str, Callable[[], Any]] = {
            "into_the_cache": lambda: [fill(file, folder) for file in (jpeg, *pyramids(jpeg, folder))],
            "out_of_the_cache": lambda: read_back(jpeg, folder),
            "memory": lambda: [peak(folder, side) for side in (8192, 16384, 32768)],
            "training": lambda: [data_share(jpeg, folder, *case) for case in STEPS],
        }
        result = json.loads(options.out.read_text(encoding="utf-8")) if options.only else {}
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
        result |= {"machine": machine, "source": source, "tile_px": SIZE_PX, "mpp": MPP, "threads": THREADS}
        for part in options.only.split(",") if options.only else parts:
            result[part] = parts[part]()
            print(part, json.dumps(result[part]), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def pyramids(jpeg: Path, folder: Path) -> list[Path]:
    return [write_pyramid(jpeg, folder / f"tiles-{side}.tif", side) for side in (256, 512)]


def the_jpeg(data: Path, folder: Path) -> tuple[Path, str]:
    found = data / "images" / "C2.jpg"
    if found.is_file():
        return found, "her2st C2.jpg"
    section = synthetic_section(side_um=6000)
    pixels = section.require_slide().read(0, 0, 6000, 6000)
    drawn = folder / "drawn.jpg"
    drawn.write_bytes(imagecodecs.jpeg8_encode(pixels, level=90))
    return drawn, "a tissue drawn by stzoo.core.io.synthetic"


def write_pyramid(jpeg: Path, path: Path, side: int) -> Path:
    """Write the image as a tiled, JPEG-compressed TIFF with three levels."""
    whole = Slide.open(jpeg, mpp=SLIDE_MPP)
    width, height = whole.width, whole.height
    options: dict[str, Any] = {"photometric": "rgb", "tile": (side, side), "compression": "jpeg"}
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        out.write(whole.read(0, 0, width, height), subifds=2, **options)
        for k in (2, 4):
            out.write(whole.read(0, 0, width, height, mpp=SLIDE_MPP * k), subfiletype=1, **options)
    return path


def lattice(slide: Slide) -> Any:
    """Return places in random order, as barcodes are."""
    step = PITCH_UM / SLIDE_MPP
    grid = np.meshgrid(np.arange(step, slide.width - step, step), np.arange(step, slide.height - step, step))
    return np.random.default_rng(0).permutation(np.stack(grid, axis=-1).reshape(-1, 2))


def fill(path: Path, folder: Path) -> dict[str, Any]:
    """Return how fast a cache is filled from one file, beside the limit; the best of the rounds, taken in turns."""
    places = lattice(Slide.open(path, mpp=SLIDE_MPP))
    ours, limit = [], []
    for number in range(ROUNDS):
        slide = Slide.open(path, mpp=SLIDE_MPP)
        ours.append(timed(lambda s=slide, k=number: cache(folder, s, places, {"round": k})))
        limit.append(timed(lambda: decode_all(path, places)))
    (wall, cpu), (limit_wall, limit_cpu) = min(ours, key=lambda t: t[1]), min(limit, key=lambda t: t[1])
    in_memory = Slide.from_array(Slide.open(path).read(0, 0, *size_of(path)), mpp=SLIDE_MPP)
    _, resampling = timed(lambda: [in_memory.tiles(places[i : i + 16], **TILES) for i in range(0, len(places), 16)])
    n = len(places)
    return {
        "file": "JPEG" if path.suffix == ".jpg" else f"TIFF, tiles of {path.stem[6:]} px", "spots": n,
        "patches_s": round(n / wall), "limit_patches_s": round(n / limit_wall),
        "cpu_s": round(cpu, 2), "limit_cpu_s": round(limit_cpu, 2), "ratio": round(limit_cpu / cpu, 3),
        "resampling_cpu_s": round(resampling, 2), "ratio_with_resampling": round((limit_cpu + resampling) / cpu, 3),
        "patches_per_cpu_s": round(n / cpu), "decoded_again": {} if path.suffix == ".jpg" else again(path, places),
    }  # fmt: skip


TILES: dict[str, Any] = {"size_px": SIZE_PX, "mpp": MPP}


def size_of(path: Path) -> tuple[int, int]:
    slide = Slide.open(path)
    return slide.width, slide.height


def cache(folder: Path, slide: Slide, places: Any, about: dict[str, Any]) -> Any:
    return cache_rows(folder / "cache", [Spots("slide", slide, places)], tile_rows(SIZE_PX, MPP), about=about)


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def decode_all(path: Path, places: Any) -> None:
    """Decode every file tile under any of the places once, and do nothing else."""
    if path.suffix == ".jpg":
        imagecodecs.jpeg8_decode(path.read_bytes())
        return
    source = TiffSource(path)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda k: source._decode(0, 0, k), needed(source, places)):
            pass


def needed(source: TiffSource, places: Any) -> list[int]:
    """Return the file tiles of the full resolution under any of the places."""
    (rows, columns), (height, width) = source._levels[0].chunk, source.shapes[0]
    half = SIZE_PX * MPP / SLIDE_MPP / 2
    under = set()
    for x, y in places:
        down = range(max(0, int(y - half)) // rows, min(height - 1, int(y + half)) // rows + 1)
        across = range(max(0, int(x - half)) // columns, min(width - 1, int(x + half)) // columns + 1)
        under |= {i * source._levels[0].grid[1] + j for i in down for j in across}
    return sorted(under)


def again(path: Path, places: Any) -> dict[str, float]:
    """Return how many file tiles are decoded, over those needed, in two orders."""
    found = {}
    for name, order in (("curve", along_a_curve(places)), ("order of the places", slice(None))):
        slide, count = Slide.open(path, mpp=SLIDE_MPP), [0]
        source: Any = slide._source
        decode = source._decode

        def counting(*key: int, decode: Any = decode, count: list[int] = count) -> Any:
            count[0] += 1
            return decode(*key)

        source._decode = counting
        some = places[order]
        for start in range(0, len(some), 16):
            slide.tiles(some[start : start + 16], **TILES)
        found[name] = round(count[0] / len(needed(source, places)), 2)
    return found


def read_back(path: Path, folder: Path) -> dict[str, Any]:
    """Return patches a second in random batches of 64; the file is in the system's page cache for all."""
    slide = Slide.open(path, mpp=SLIDE_MPP)
    places = lattice(slide)
    rows = cache(folder, slide, places, {"round": 0})
    plain = np.load(rows.folder / "rows.npy", mmap_mode="r")
    every = np.random.default_rng(1).permutation(len(rows))
    batches = [every[i : i + 64] for i in range(0, len(every) - 63, 64)]
    n = 64 * len(batches)
    warm = [np.asarray(plain[batch]) for batch in batches]
    del warm
    first = timed(lambda: [rows[batch].shape for batch in batches])
    after = min(timed(lambda: [rows[batch].shape for batch in batches]) for _ in range(ROUNDS))
    floor = min(timed(lambda: [plain[batch].shape for batch in batches]) for _ in range(ROUNDS))
    rates = {name: round(n / took[1]) for name, took in (("first", first), ("after", after), ("memmap", floor))}
    return {"batch": 64, "patches": n, "patches_per_cpu_s": rates, "ratio": round(floor[1] / after[1], 2)}


def peak(folder: Path, side: int) -> dict[str, Any]:
    """Return the memory that 1,000 tiles at random places of a slide take, in a process of its own."""
    path = folder / f"{side}.tif"
    block = synthetic_section(side_um=1024).require_slide().read(0, 0, 256, 256)
    blocks = (block for _ in range((side // 256) ** 2))
    how: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "jpeg"}
    tifffile.imwrite(path, blocks, shape=(side, side, 3), dtype=np.uint8, **how)
    command = [sys.executable, __file__, "--peak", str(path)]
    mib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    path.unlink()
    return {"slide_px": side, "slide_mib": side * side * 3 // 2**20, "peak_mib": mib}


def peak_here(path: Path) -> int:
    slide = Slide.open(path, mpp=SLIDE_MPP)
    slide.tiles([[500.0, 500.0]], **TILES)
    places = np.random.default_rng(0).uniform(0, slide.width, (1000, 2))
    before = most = own_memory()

    def watch(done: int, total: int) -> None:
        nonlocal most
        most = max(most, own_memory())

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        cache_rows(Path(folder), [Spots("slide", slide, places)], tile_rows(SIZE_PX, MPP), progress=watch)
    return (most - before) // 1024


def own_memory() -> int:
    """Return what this process holds besides pages of files, KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


STEPS: list[tuple[str, str, list[str], int]] = [
    ("comtip-tiny", "comtip-tiny", [], 5),
    ("comtip-tiny, linear stem", "comtip-tiny", ["vision.stem=linear", "vision.skip=false"], 5),
    ("comtip-tiny-paper", "comtip-tiny-paper", [], 3),
    ("comtip-base, 4 genes a profile", "comtip-base", ["train.batch=8", "train.genes=4", "train.fewest_genes=4"], 2),
]


class Clocked:
    """Rows that know how many CPU seconds getting them took."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.seconds = rows, 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        start = time.process_time()
        found = self.rows[index]
        self.seconds += time.process_time() - start
        return found


def data_share(jpeg: Path, folder: Path, name: str, recipe: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """Return the share of a step, forward and backward, that is spent on its batch."""
    import torch
    from anndata import AnnData
    from scipy.sparse import random_array
    from stzoo.core import config as configs
    from stzoo.core.data.section import Section
    from stzoo.core.training.recipes import load_recipe
    from stzoo.plugins.comtip.config import CoMTIPConfig
    from stzoo.plugins.comtip.data import gather
    from stzoo.plugins.comtip.network import CoMTIPNetwork
    from stzoo.plugins.comtip.training import CoMTIPTask
    from stzoo.plugins.comtip.vocabulary import Vocabulary

    torch.set_num_threads(1)
    config = configs.build(CoMTIPConfig, load_recipe("comtip", recipe, overrides).config, where=recipe)
    places = lattice(Slide.open(jpeg, mpp=SLIDE_MPP))[:400]
    counts = random_array(
        (len(places), 1000), density=0.3, format="csr", dtype=np.float32, rng=np.random.default_rng(0)
    )
    counts.data = np.ceil(counts.data * 20)
    adata = AnnData(counts)
    adata.var_names = [f"G{k}" for k in range(1000)]
    adata.obsm["spatial"] = places
    section = Section(adata, "made", Slide.open(jpeg, mpp=SLIDE_MPP), SLIDE_MPP)
    data = gather([section], section.genes, config, 0, cache=folder / "training")
    vocabulary = Vocabulary(section.genes, config.text)
    network = CoMTIPNetwork(config, 1000, vocabulary.n_tokens, vocabulary.n_described, vocabulary.suffix)
    data.inputs._rows = rows = Clocked(data.inputs._rows)
    data.inputs, data.values = Clocked(data.inputs), Clocked(data.values)
    task = CoMTIPTask(network, data, vocabulary.inputs(section.genes), config)
    start = time.process_time()
    for step in range(steps):
        task.losses(step, torch.Generator().manual_seed(step))["loss"].backward()
        task.both.zero_grad()
    total = time.process_time() - start
    waited, read = data.inputs.seconds + data.values.seconds, rows.seconds + data.values.seconds
    return {
        "config": name, "batch": config.train.batch, "steps": steps, "step_cpu_s": round(total / steps, 3),
        "batch_cpu_s": round(waited / steps, 4),
        "share": round(waited / total, 4), "read_share": round(read / total, 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
