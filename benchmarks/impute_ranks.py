"""Impute a real section with one process and with two, and compare what is written and what it costs.

Run ``python benchmarks/impute_ranks.py --data FOLDER`` (the folder that holds ``xenium_breast`` and ``dlpfc``); it
writes ``benchmarks/results/impute_ranks.json``. The section: Xenium, quadrant 1, in bins of 25 and of 10 µm, one of
four measured. The stack: two sections of DLPFC, 151673 whole, of 151674 one spot in four, not aligned (this is about
cost).
Every process computes with one thread, so two use two cores and one uses one. What is told is seconds of the slower
process's processor, reading and writing included, which other programs on the machine disturb less than the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
import zarr
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Stack
from stzoo.core.io.read import read
from stzoo.core.registry import model
from stzoo.core.runtime.ranks import join_ranks
from stzoo.core.workflows.impute import impute
from stzoo.core.workflows.impute_stack import impute_stack

RESULTS = Path(__file__).parent / "results" / "impute_ranks.json"
SECTION, LEAST, RULE = "xenium_breast/xenium_q1.csv.gz", 10, "grid:2"
STACK, GENES = ("151673", "151674"), 300
WORK = (
    ("25 µm bins", "knn"),
    ("25 µm bins", "kriging"),
    ("25 µm bins", "s2s-st"),
    ("10 µm bins", "knn"),
    ("10 µm bins", "kriging"),
    ("stack", "kriging"),
    ("stack", "st-dai"),
)


def section_of(data: Path, bin_um: float) -> Any:
    """Read the section; bins with next to no tissue are left out."""
    section = read(str(data / SECTION), bin_um=bin_um)
    return section.take(section.depth >= LEAST)


def stack_of(data: Path) -> Stack:
    """Read the stack: the genes of highest mean, one section whole."""
    sections = [read(str(data / "dlpfc" / "h5ad" / f"{name}.h5ad")) for name in STACK]
    shared = Stack(tuple(sections)).genes
    mean = np.mean([section.counts(shared).mean(axis=0) for section in sections], axis=0)
    genes = [shared[i] for i in np.sort(np.argsort(-mean, kind="stable")[:GENES])]
    sections = [section.take_genes(genes) for section in sections]
    for number, section in enumerate(sections):
        section.adata.obs["measured"] = measured_mask(section, "all" if number == 0 else f"random:0.25+{number}")
    return Stack(tuple(sections))


def work(rank: int, world: int, port: int, out: Path, data: Path, method: str, kind: str) -> None:
    """Be one process."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_ranks() as ranks:
        given: Any = stack_of(data) if kind == "stack" else section_of(data, float(kind.split()[0]))
        wall, cpu = time.perf_counter(), time.process_time()
        if kind == "stack":
            impute_stack(model(method), given, out=out, ranks=ranks)
        else:
            impute(model(method), given, out=out, rule=RULE, ranks=ranks)
        used = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (out.parent / f"{out.stem}.{rank}.json").write_text(json.dumps({**used, "peak_mb": peak}), encoding="utf-8")


def run(world: int, folder: Path, data: Path, method: str, kind: str) -> tuple[Path, dict[str, float]]:
    """Impute with so many processes; return the output, and the most that one of them took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = folder / (f"{kind.split()[0]}-{method}-{world}" + ("" if kind == "stack" else ".zarr"))
    mp.spawn(work, args=(world, port, out, data, method, kind), nprocs=world)  # type: ignore[no-untyped-call]
    told = [json.loads(path.read_text()) for path in folder.glob(f"{out.stem}.*.json")]
    return out, {name: max(one[name] for one in told) for name in told[0]}


def arrays(path: Path) -> list[Any]:
    """Return what was imputed, and with what confidence, of every section of an output."""
    root: Any = zarr.open_group(path if path.suffix else path / "volume.zarr", mode="r")
    groups = [root] if path.suffix else [group for _, group in sorted(root["sections"].groups())]
    return [group[f"layers/{name}"][:] for group in groups for name in ("imputed", "confidence")]


def compared(folder: Path, data: Path, method: str, kind: str) -> dict[str, Any]:
    """Impute with one process and with two."""
    (one, cost), (two, shared) = (run(world, folder, data, method, kind) for world in (1, 2))
    found = [arrays(one), arrays(two)]
    return {
        "kind": kind,
        "method": method,
        "spots": sum(len(x) for x in found[0][::2]),
        "genes": found[0][0].shape[1],
        "bit_equal": all(np.array_equal(a, b) for a, b in zip(*found, strict=True)),
        "cpu_seconds_of_one": round(cost["cpu"], 2),
        "cpu_seconds_of_the_slower_of_two": round(shared["cpu"], 2),
        "speed_up_cpu": round(cost["cpu"] / shared["cpu"], 2),
        "wall_seconds": [round(cost["wall"], 2), round(shared["wall"], 2)],
        "peak_mb": [round(cost["peak_mb"]), round(shared["peak_mb"])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, method in WORK:
            rows.append(compared(Path(scratch), chosen.data, method, kind))
            print(rows[-1], flush=True)
    result = {"backend": "gloo", "threads_of_a_process": 1, "rows": rows}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
