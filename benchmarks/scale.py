"""Memory and time of predicting 3,000 genes of large sections into zarr: up to 500,000 spots x 18,000 genes.

Run ``python benchmarks/scale.py`` in an environment with stzoo; it writes ``benchmarks/results/scale.json``.

The sections are **synthetic in size**: one drawn tissue of 2048 x 2048 px, repeated as often as the spots need (a slide
that is generated tile by tile, 4 µm/px), spots on a square grid of 100 µm, and some 300 random counts a spot, written
to a .h5ad file by blocks. Nothing about the predicted values is looked at here; that they are the ones of a prediction
held whole, tests/core/workflows/test_predict.py shows.

Each size runs in a process of its own, which reads the section lazily, predicts it with a ridge head for 3,000 genes
(of random weights: it costs what a fitted one costs), and writes predictions, uncertainties, counts, measured values
and the slide. Its peak resident memory (VmHWM) and CPU seconds count everything from the start of Python. The floors
are what no implementation of this encoder and head can do without: tiles, statistics and the network of a spot alone,
and the head alone. comtip-tiny itself, whose tiles have 224 px, is run at the smallest size only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "scale.json"
GENES, PREDICTED, NONZERO, PITCH_UM, MPP, SIDE_PX = 18_000, 3_000, 300, 100.0, 4.0, 2048
ENCODERS = ("comtip-64px", "comtip-tiny")
CHEAP = {
    "vision": {
        "tile_px": 64, "mpp": 3.5, "patch_px": 16, "width": 96, "depth": 2, "heads": 3, "poses": False,
        "context_um": [200.0, 400.0],
    },
    "text": {"width": 64, "depth": 1, "heads": 4},
    "embedding_dim": 128,
    "train": {"min_detected": 0.0, "max_genes": 200},
}  # fmt: skip
"""``comtip-64px``: the shapes of comtip-tiny on tiles of the same 224 µm at fewer pixels, in one pose instead of eight,
with random weights: what it predicts means nothing, what it costs is looked at."""
ROWS = 8192


class Repeated:
    """A slide of any size: one image beside itself, again and again; no more than a tile exists at a time."""

    mpp: float | None = MPP

    def __init__(self, base: Any, height: int, width: int) -> None:
        self._base, self.shapes = base, [(height, width)]

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Any:
        """Return a box of the pattern, uint8 (h, w, 3)."""
        rows, columns = (np.arange(a, b) % SIDE_PX for a, b in ((top, bottom), (left, right)))
        return self._base[rows[:, None], columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spots", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, choices=ENCODERS)
    parser.add_argument("--most", type=int, default=5_000, help="no more spots than this with comtip-tiny")
    parser.add_argument("--work", type=Path, help="folder for the data; 20 GB for 500,000 spots")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=3, metavar=("ENCODER", "SECTION", "OUT"), help="used by the benchmark itself")
    options = parser.parse_args()
    if options.one:
        one(*options.one)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder = Path(work)
        np.save(folder / "base.npy", pattern())
        floors = {name: floor(name, folder) for name in options.encoders}
        for spots in options.spots:
            write_section(folder / "section.h5ad", spots)
            for name in options.encoders:
                if name == "comtip-tiny" and spots > options.most:
                    continue
                rows.append(measured(name, spots, folder, floors[name]))
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
                save(options.out, rows, floors)


def save(out: Path, rows: Sequence[dict[str, Any]], floors: dict[str, Any]) -> None:
    """Write what has been measured so far."""
    about = {"genes": GENES, "predicted": PREDICTED, "nonzero_a_spot": NONZERO, "pitch_um": PITCH_UM, "slide_mpp": MPP}
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    result = {"machine": machine, "synthetic": about, "floors_ms_a_spot": floors, "rows": list(rows)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(name: str, spots: int, folder: Path, floor: dict[str, float]) -> dict[str, Any]:
    """Run one size in a process of its own, and take away what it wrote."""
    out, start = folder / "out.zarr", time.perf_counter()
    command = [sys.executable, __file__, "--one", str(folder / name), str(folder / "section.h5ad"), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    metrics = json.loads(done.stdout.splitlines()[-1])
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    shutil.rmtree(out)
    alone = floor["encoder"] + floor["head"]
    ms = 1000 * metrics["predict_cpu_s"] / spots
    return {
        "encoder": name, "spots": spots, "peak_mb": metrics["peak_mb"], "before_mb": metrics["before_mb"],
        "cpu_s": metrics["cpu_s"], "read_cpu_s": metrics["read_cpu_s"], "ms_a_spot": round(ms, 2),
        "to_floor": round(ms / alone, 2), "wall_s": round(time.perf_counter() - start),
        "store_gb": round(size / 1e9, 2),
    }  # fmt: skip


def one(weights: str, source: str, out: str) -> None:
    """Read, predict and write; print peak memory and CPU seconds of this process."""
    import stzoo
    from stzoo.core.workflows.predict import predict

    encoder = stzoo.load(weights)
    before, start = high_water(), cpu()
    section = stzoo.read(source, lazy=True)
    section = replace(section, slide=slide(section.n_spots, np.load(Path(source).parent / "base.npy")))
    read = cpu()
    predict(encoder, section, out=out)
    metrics = {"peak_mb": high_water(), "before_mb": before, "cpu_s": round(cpu(), 1)}
    print(json.dumps({**metrics, "read_cpu_s": round(read - start, 1), "predict_cpu_s": round(cpu() - read, 1)}))


def pattern() -> Any:
    """Return the drawn tissue that is repeated, uint8 (side, side, 3)."""
    from stzoo.core.io.synthetic import synthetic_section

    return synthetic_section(side_um=SIDE_PX).require_slide().read(0, 0, SIDE_PX, SIDE_PX)


def slide(spots: int, base: Any) -> Any:
    """Return the slide of a section of so many spots."""
    from stzoo.core.slides.slide import Slide

    side = math.ceil(places(spots).max() + 2 * PITCH_UM / MPP)
    return Slide(Repeated(base, side, side), mpp=MPP)


def places(spots: int) -> Any:
    """Return pixel positions, float64 (n, 2), of a square grid, row by row."""
    side = math.ceil(math.sqrt(spots))
    index = np.arange(spots)
    return (np.column_stack([index % side, index // side]) + 2) * (PITCH_UM / MPP)


def counts(rng: np.random.Generator, rows: int) -> Any:
    """Return random counts of some spots, CSR (rows, genes)."""
    from scipy.sparse import csr_array

    columns = np.cumsum(rng.integers(1, 2 * GENES // NONZERO - 5, (rows, NONZERO)), axis=1)
    kept = columns < GENES
    values = (1 + rng.poisson(0.5, kept.sum())).astype(np.float32)
    indptr = np.concatenate([[0], kept.sum(axis=1).cumsum()])
    return csr_array((values, columns[kept].astype(np.int32), indptr), shape=(rows, GENES))


def write_section(path: Path, spots: int) -> None:
    """Write a .h5ad file with the counts of so many spots, block by block."""
    import h5py
    from anndata import AnnData
    from pandas import DataFrame

    adata = AnnData(obs=DataFrame(index=[f"s{i}" for i in range(spots)]), var=DataFrame(index=names(GENES)))
    adata.obsm["spatial"] = places(spots)
    adata.uns["stzoo_section"] = {"name": "synthetic", "mpp": MPP, "pitch_um": PITCH_UM, "format_version": 2}
    adata.write_h5ad(path)
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        x = file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([spots, GENES])})
        parts = {
            n: x.create_dataset(n, (0,), t, maxshape=(None,), chunks=(1 << 18,))
            for n, t in (("data", "f4"), ("indices", "i4"))
        }
        ends = [np.zeros(1, dtype=np.int64)]
        for start in range(0, spots, ROWS):
            block = counts(rng, min(ROWS, spots - start))
            ends.append(block.indptr[1:].astype(np.int64) + ends[-1][-1])
            for name, dataset in parts.items():
                dataset.resize((int(ends[-1][-1]),))
                dataset[int(ends[-1][-1]) - block.nnz :] = getattr(block, name)
        x.create_dataset("indptr", data=np.concatenate(ends))


def names(genes: int) -> list[str]:
    """Return the names of the genes."""
    return [f"G{i}" for i in range(genes)]


def floor(name: str, folder: Path) -> dict[str, float]:
    """Save the model with a head, and measure tiles with features, and the head, each alone: CPU ms a spot."""
    import torch
    from anndata import AnnData
    from pandas import DataFrame
    from stzoo.core.data.section import Section
    from stzoo.core.registry import model
    from stzoo.core.runtime.blocks import batches_of, blocks_of
    from stzoo.plugins.comtip.embedding import encode_poses
    from stzoo.plugins.comtip.inputs import read_inputs
    from stzoo.zoo.loading import load

    spots, base = 512, np.load(folder / "base.npy")
    adata = AnnData(counts(np.random.default_rng(1), spots).tocsr(), var=DataFrame(index=names(GENES)))
    adata.obsm["spatial"] = places(spots)
    small = Section(adata, "small", slide(spots, base), MPP, pitch_um=PITCH_UM)
    encoder = load(name) if name == "comtip-tiny" else model("comtip", CHEAP).initialise([small])
    encoder.fitted_heads["ridge"] = random_head(encoder.embedding_dim)
    encoder.save(folder / name)
    bare, fresh = load(str(folder / name)), replace(small, slide=slide(spots, base))  # nothing is kept of this slide
    start = cpu()
    for rows in batches_of(blocks_of(spots), 64):
        with torch.inference_mode():
            encode_poses(
                bare.network, read_inputs(fresh, fresh.pixels[rows], bare.config.vision), poses=bare.config.vision.poses
            )
    encoding = cpu() - start
    embedding = np.repeat(encoder.embed(small), 2, axis=0)
    start = cpu()
    for first in range(0, len(embedding), 512):
        encoder.fitted_heads["ridge"].predict(embedding[first : first + 512], None)
    decoding = cpu() - start
    return {"encoder": round(1000 * encoding / spots, 3), "head": round(1000 * decoding / len(embedding), 3)}


def random_head(width: int) -> Any:
    """Return a ridge head that nobody fitted: it costs what a fitted one costs."""
    from stzoo.core.heads.ridge import RidgeHead

    rng = np.random.default_rng(2)
    genes, ones = tuple(names(PREDICTED)), np.ones(PREDICTED, dtype=np.float32)
    weights = rng.normal(0, 0.02, (width, PREDICTED)).astype(np.float16).astype(np.float32)
    mean, scale = np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32)
    return RidgeHead(genes, weights, ones, mean, scale, 0.3 * ones, 1.0)


def cpu() -> float:
    """Return CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def high_water() -> int:
    """Return the peak resident memory of this process, MB (getrusage would count the parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1000


if __name__ == "__main__":
    main()
