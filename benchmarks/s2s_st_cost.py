"""What s2s-st costs: time and peak memory of its variants, and how the refined one grows with the grid.

Usage: ``OMP_NUM_THREADS=1 python benchmarks/s2s_st_cost.py [--large] [--quick] [--only growth]`` from the root; data
come from ``../shared/data`` (or ``STZOO_SHARED_DATA``). Results are written to ``benchmarks/results/s2s_st_cost.json``.

The section is xenium-q1 in 50 µm bins (at least 10 counts), measured ``grid:2``. Every job is a process of its own;
reading the section is in none of the times. Peaks are those of imputing: imports and the section with its truth are in
them, what it took to read, bin and tile it is not.

- Variants: wall time of fit and fill of all genes, as rows of ``xenium-q1-50um`` do it.
- One gene at a time, the paper's way: seconds an iteration of the full network with the authors' batch (two iterations,
  after one that is not counted), times 45,000 and the number of genes: an estimate, nobody ran it. Beside it the small
  network for one gene, measured, times the number of genes.
- Growth of the refined variant: the section is tiled 1 x 1, 4 x 4 and (``--large``) 16 x 16 times, every second tile
  mirrored so that borders meet themselves. The tissue is real but repeats itself. Sixteen genes, seconds and peak per
  bin, and the exponent of time against bins.

``--quick`` tries everything on its smallest size and writes nothing unless ``--out`` is given.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import stzoo
from anndata import AnnData
from stzoo.core.config import override
from stzoo.core.data.binning import bin_section
from stzoo.core.data.section import Section
from stzoo.core.evaluation.load import load_protocol
from stzoo.core.workflows.impute import sparse_section

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results" / "s2s_st_cost.json"
SMALL = "CDCIN, shared, small"
PAPER_ITERATIONS, SIDE, GENE, GENES = 45_000, 32, "ERBB2", 16
BIN_UM, LEAST = 50.0, 10
PARTS = ("variants", "per_gene", "growth")

Found = dict[str, Any]


def main() -> None:
    """Run the jobs, each in a fresh process, print and write what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="the grid of 16 x 16 tiles as well")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these parts, and keep the others as they are")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, to try the script")
    parser.add_argument("--start", default="natural", choices=("natural", "none"), help="where the refiner starts")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", help="used by the benchmark itself")
    chosen = parser.parse_args()
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}: set STZOO_SHARED_DATA")
    if chosen.job:
        print(json.dumps(here(json.loads(chosen.job))))
        return
    out = chosen.out or RESULTS
    kept = json.loads(out.read_text(encoding="utf-8")) if chosen.only and out.is_file() else {}
    result = {**kept, **measured(chosen.only or PARTS, chosen.large, chosen.quick, chosen.start)}
    if chosen.out or not chosen.quick:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(parts: Sequence[str], large: bool, quick: bool, start: str) -> Found:
    """Return everything that is written of some parts."""
    refined = [f"start={start}"] + (["refined.steps=2"] if quick else [])
    small = small_row() + (["cdcin.train.iterations=2"] if quick else [])
    found: Found = {}
    if "variants" in parts:
        found |= {"variants": variants(refined, small, quick), "machine": machine()}
    if "per_gene" in parts:
        found |= {"per_gene": per_gene(small, quick), "per_gene_machine": machine()}
    if "growth" in parts:
        found |= {**growth(refined, large, quick), "growth_machine": machine()}
    return found


def variants(refined: list[str], small: list[str], quick: bool) -> list[Found]:
    """Return what fitting and filling all genes costs, each way."""
    jobs = {"kriging": ("kriging", []), "s2s-st": ("s2s-st", refined), SMALL: ("s2s-st", small)}
    return [
        told(name, fresh({"kind": "fill", "genes": 4 if quick else None, "model": model, "overrides": overrides}))
        for name, (model, overrides) in jobs.items()
    ]


def per_gene(small: list[str], quick: bool) -> Found:
    """Return what one network a gene costs, and what that comes to for all genes."""
    genes = len(section().genes)
    paper = told("full network, a step", fresh({"kind": "step", "batch": 1 if quick else 16, "steps": 2}))
    job = {"kind": "fill", "names": [GENE], "model": "s2s-st", "overrides": small}
    single = told(f"small network, {GENE}", fresh(job))
    return {
        "step": paper,
        "estimate": told(
            "estimate",
            {
                "what": f"an estimate, not run: seconds an iteration x {PAPER_ITERATIONS} x {genes} genes",
                "days": round(paper["seconds_per_iteration"] * PAPER_ITERATIONS * genes / 86_400, 1),
            },
        ),
        "small_one_gene": single,
        "small_all_genes": told(
            "small_all_genes",
            {
                "what": f"an estimate, not run: seconds of one gene x {genes} genes",
                "hours": round(single["seconds"] * genes / 3600, 2),
            },
        ),
    }


def growth(refined: list[str], large: bool, quick: bool) -> Found:
    """Return what the refined variant costs on larger and larger grids."""
    job = {"kind": "fill", "model": "s2s-st", "overrides": refined, "genes": GENES}
    tiles = [1] if quick else [1, 4, *([16] if large else [])]
    rows = [told(f"{n} x {n} tiles", fresh({**job, "tiles": n})) for n in tiles]
    exponent = fitted([row["bins"] for row in rows], [row["cpu_seconds"] for row in rows])
    print(f"CPU seconds grow with the bins to the power {exponent}")
    return {
        "growth": rows,
        "growth_exponent": exponent,
        "growth_section": "xenium-q1 in tiles, every second one mirrored: real tissue that repeats itself",
    }


def here(job: Found) -> Found:
    """Do one job in this process, and say what it cost."""
    found = step(job["batch"], job["steps"]) if job["kind"] == "step" else fill(job)
    return {**found, "peak_mib": round(high_water() / 1024)}


def fill(job: Found) -> Found:
    """Fit and fill once."""
    whole = tiled(section(), job.get("tiles", 1))
    genes = job.get("names") or most_variable(whole, job.get("genes"))
    sparse = sparse_section(whole, "grid:2", genes=genes)
    bins = sparse.section.n_spots
    del whole
    imputer = stzoo.model(job["model"], override({}, job["overrides"]), role="imputer")
    forget_peak()
    ready = high_water()
    start, cpu = time.perf_counter(), time.process_time()
    imputer.impute(sparse.section, target=sparse.target)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    grid = [int(np.ptp(sparse.section.adata.obs[name])) + 1 for name in ("array_row", "array_col")]
    return {
        "model": job["model"],
        "overrides": [item.replace(str(DATA.resolve()), "{data}") for item in job["overrides"]],
        "grid": grid,
        "bins": bins,
        "genes": len(sparse.section.genes),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "ms_per_bin": round(1000 * seconds / bins, 3),
        "growth_kib_per_bin": round((high_water() - ready) / bins, 2),
    }


def step(batch: int, steps: int) -> Found:
    """Train the full network of the paper for a few steps, on one gene and as many natural images."""
    from stzoo.plugins.s2s_st.cdcin.fitting import fit_cdcin
    from stzoo.plugins.s2s_st.config import CDCINConfig, CDCINTrainConfig
    from stzoo.plugins.s2s_st.images import NaturalImages
    from stzoo.plugins.s2s_st.lattice import Lattice

    sparse = sparse_section(section(), "grid:2", genes=[GENE])
    lattice = Lattice.of(sparse.section)
    values = np.where(sparse.section.measured[:, None], sparse.truth, np.nan).astype(np.float32)
    images = NaturalImages.read(DATA / "natural" / "skimage_gray")
    config = CDCINConfig(train=CDCINTrainConfig(iterations=steps + 1, batch=batch, window=SIDE))
    at: list[float] = []
    network = fit_cdcin(
        lattice.to_grid(values),
        lattice.occupied,
        lattice.mask(sparse.section.measured),
        config,
        images=images,
        progress=lambda done, total: at.append(time.perf_counter()),
    )
    return {
        "parameters": sum(weights.numel() for weights in network.parameters()),
        "window": SIDE,
        "batch": f"{batch} windows and {batch} images",
        "seconds_per_iteration": round((at[-1] - at[0]) / steps, 2),
    }


def section() -> Section:
    """Read the section as the protocol does."""
    found = bin_section(stzoo.read(DATA / "xenium_breast" / "xenium_q1.csv.gz"), BIN_UM)
    return found.take(found.depth >= LEAST)


def tiled(one: Section, times: int) -> Section:
    """Repeat a section so many times in both directions, every second tile mirrored."""
    if times == 1:
        return one
    row, col = (one.adata.obs[name].to_numpy() for name in ("array_row", "array_col"))
    row, col = row - row.min(), col - col.min()
    height, width = int(row.max()) + 1, int(col.max()) + 1
    rows, cols = [], []
    for i in range(times):
        for j in range(times):
            rows.append(i * height + (height - 1 - row if i % 2 else row))
            cols.append(j * width + (width - 1 - col if j % 2 else col))
    at = np.stack([np.concatenate(rows), np.concatenate(cols)], axis=1)
    counts: npt.NDArray[np.float32] = np.tile(one.counts(), (times**2, 1))
    adata = AnnData(counts, var=one.adata.var[[]].copy())
    adata.obs_names = [f"{r}x{c}" for r, c in at]
    adata.obs["array_row"], adata.obs["array_col"] = at.T
    adata.obsm["spatial_um"] = (at[:, ::-1] + 0.5) * BIN_UM
    return Section(adata, f"{one.name} in {times} x {times} tiles")


def most_variable(whole: Section, count: int | None) -> list[str] | None:
    """Return so many genes of the highest variance; None for all."""
    if count is None:
        return None
    variance = whole.expression(target=float(np.median(whole.depth))).var(axis=0)
    return [whole.genes[i] for i in np.argsort(-variance, kind="stable")[:count]]


def small_row() -> list[str]:
    """Return the options of the row in the protocol, so that both always agree."""
    rows = {row.name: row for row in load_protocol("xenium-q1-50um").rows}
    return rows[SMALL].below(DATA).overrides


def fitted(bins: list[int], seconds: list[float]) -> float | None:
    """Return the exponent of seconds against bins, by least squares of the logarithms; None for one size."""
    if len(bins) < 2:
        return None
    return round(float(np.polyfit(np.log(bins), np.log(seconds), 1)[0]), 3)


def fresh(job: Found) -> Found:
    """Do a job in a fresh process."""
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def told(name: str, row: Found) -> Found:
    """Print a row, and return it with its name."""
    shown = [f"{key} {value}" for key, value in row.items() if key not in ("model", "overrides")]
    print(f"{name:24s} " + "  ".join(shown), flush=True)
    return {"name": name, **row}


def machine() -> Found:
    """Say where it ran."""
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    load = round(os.getloadavg()[0], 2)
    return {"cpus": os.cpu_count(), "processor": platform.machine(), "threads": threads, "load": load}


def forget_peak() -> None:
    """Let the peak start again from what is held now (Linux: proc(5), clear_refs)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def high_water() -> int:
    """Return the peak resident memory of this process, KiB (getrusage would count the parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
