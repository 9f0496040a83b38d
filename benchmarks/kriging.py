"""Baseline imputers on hidden bins of Xenium sections.

Usage: ``OPENBLAS_NUM_THREADS=1 python benchmarks/kriging.py [--phases 4]`` from the repository root; the
data come from ``../shared/data`` (or ``STZOO_SHARED_DATA``). Results are written to ``benchmarks/results/``.

Cells are binned to 50 µm (bins with at least 10 counts), counts scaled to the median depth of the measured bins and
log1p taken; measured is one phase of stride 2; scores are medians over genes of the correlation over hidden bins, for
all genes and for the 50 of highest measured variance, averaged over phases.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import stzoo
from anndata import AnnData
from stzoo.core.data.sampling import measured_mask
from stzoo.core.data.section import Section
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.metrics.summary import summarise

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
PHASES = ("0,0", "0,1", "1,0", "1,1")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "gene-mean": ("gene-mean", {}),
    "knn": ("knn", {}),
    "smooth": ("smooth", {}),
    "kriging gene by gene": ("kriging", {"components": 0}),
    "kriging": ("kriging", {}),
}


def xenium(quadrant: str, bin_um: float = 50.0, least: int = 10) -> Section:
    """Bin the cells of a quadrant, starting from the first cell; keep bins with at least ``least`` counts."""
    cells = pd.read_csv(DATA / "xenium_breast" / f"xenium_{quadrant}.csv.gz", index_col=0)
    where = cells[["y_centroid", "x_centroid"]]
    place = ((where - where.min()) // bin_um).astype(int)
    bins = cells.iloc[:, 3:].groupby([place["y_centroid"], place["x_centroid"]]).sum()
    bins = bins[bins.sum(axis=1) >= least]
    at = np.array(bins.index.tolist())
    obs = pd.DataFrame({"array_row": at[:, 0], "array_col": at[:, 1]}, index=[f"{r}x{c}" for r, c in at])
    adata = AnnData(bins.to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=bins.columns))
    adata.obsm["spatial_um"] = (at[:, ::-1] + 0.5) * bin_um
    return Section(adata, f"xenium-{quadrant}-50um")


def mouse_brain(least: int = 10) -> Section:
    """Read the 50 µm bins of the mouse brain section."""
    from anndata import read_h5ad

    adata = read_h5ad(DATA / "xenium_mouse_brain" / "lattice_50um.h5ad")
    return Section(adata[np.asarray(adata.X.sum(axis=1)).ravel() >= least].copy(), "mouse-brain-50um")


def score(section: Section, method: str, options: dict[str, Any], phases: int) -> dict[str, float]:
    """Return the scores of one method, averaged over phases."""
    rows = []
    for phase in PHASES[:phases]:
        measured = measured_mask(section, f"grid:2+{phase}")
        depth = float(np.median(section.depth[measured]))
        truth = section.expression(target=depth)
        top = np.argsort(-truth[measured].var(axis=0))[:50]
        start, cpu = time.perf_counter(), time.process_time()
        guessed = stzoo.model(method, options).impute(section.hide(measured)).adata.layers["imputed"]
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        pcc = np.nan_to_num(per_gene_pcc(truth[~measured], guessed[~measured]))
        row = {"pcc_all": float(np.median(pcc)), "pcc_top50": float(np.median(pcc[top]))}
        row["mae"] = summarise(truth[~measured], guessed[~measured])["mae"]
        rows.append({**row, "seconds": seconds, "cpu_seconds": cpu})
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}


def metrics(phases: int) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield data set, method and scores."""
    for section in (xenium("q1"), xenium("q2"), mouse_brain()):
        for label, (method, options) in METHODS.items():
            yield section.name, label, score(section, method, options, phases)


def main() -> None:
    """Print the scores and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=int, default=4, choices=range(1, 5))
    chosen = parser.parse_args()
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}: set STZOO_SHARED_DATA")
    rows = []
    for data, method, row in metrics(chosen.phases):
        print(f"{data:20s} {method:26s} " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
        rows.append({"data": data, "method": method, **row})
    machine = {"cpus": os.cpu_count(), "processor": platform.machine(), "load": os.getloadavg()[0]}
    settings = {"phases": chosen.phases, "threads": os.environ.get("OPENBLAS_NUM_THREADS", "default")}
    out = ROOT / "benchmarks" / "results" / "kriging.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine, **settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
