"""The MLP head in the house's training loop, beside the loop of its own that it had before.

``python benchmarks/head_mlp.py --data ../shared/data`` writes ``benchmarks/results/head_mlp.json``. The former head is
read from the history of this repository (``--before``). Data, genes and normalisation are those of the protocol
``her2st-c5``: heads are fitted on the embeddings of C2, C3 and C4 and predict C5, of which they see the image alone.
The encoders are the packaged ``comtip-tiny`` (one set of weights, where the protocol trains one for each seed) and
``colour-texture``; the seeds are those of the head. Both heads are fitted in turns, so that a busy moment falls on
both; CPU seconds are of a whole fit: the folds, and all sections.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import stzoo
import torch
from stzoo.core.encoder import training_data
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.models import Models
from stzoo.core.heads.mlp import MLPHead
from stzoo.core.metrics.summary import summarise
from stzoo.plugins.benchmarks.kinds.expression import Expression

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "head_mlp.json"
OWN_LOOP = "d31cd06"
"""The last commit whose head had a loop of its own."""
PROTOCOL = "her2st-c5"


def main() -> None:
    """Fit heads with both, print and write what they predict and cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--before", default=OWN_LOOP, help="commit of the former head")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fits = {"own loop": former(options.before).fit_mlp, "core.train": MLPHead.fit}
    task = Expression(load_protocol(PROTOCOL), options.data, Models(stzoo.load, Path()))
    encoders = {"comtip-tiny": stzoo.load("comtip-tiny"), "colour-texture": stzoo.model("colour-texture")}
    rows = [row for name, encoder in encoders.items() for row in compared(name, encoder, task, fits, options.seeds)]
    machine = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    found = {"machine": machine, "before": options.before, "protocol": PROTOCOL, "seeds": options.seeds, "rows": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def former(commit: str) -> ModuleType:
    """Return the module of the head as a commit has it."""
    command = ["git", "-C", str(ROOT), "show", f"{commit}:core/head_mlp.py"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    module = sys.modules["former_head_mlp"] = ModuleType("former_head_mlp")  # dataclasses look it up there
    exec(compile(text, f"core/head_mlp.py at {commit}", "exec"), module.__dict__)  # our own history
    return module


def compared(
    name: str, encoder: Any, task: Expression, fits: dict[str, Callable[..., Any]], seeds: int
) -> list[dict[str, Any]]:
    """Return a row for each way to fit."""
    x, y, group, genes = training_data(encoder, task.train, task.genes)
    unseen = np.concatenate([encoder.embed(section) for section in task.blind])
    cpu: dict[str, list[float]] = {way: [] for way in fits}
    heads: dict[str, list[Any]] = {way: [] for way in fits}
    for seed in range(seeds):
        for way, fit in fits.items():
            start = time.process_time()
            heads[way].append(fit(x, y, group, genes, seed=seed))
            cpu[way].append(time.process_time() - start)
    rows = []
    for way in fits:
        values = [head.predict(unseen).values for head in heads[way]]
        row = {"encoder": name, "loop": way, "spots": len(x), "width": x.shape[1], "genes": len(genes)}
        row |= {"steps": [head.steps for head in heads[way]]}
        row |= {part: metrics(task, chosen, values) for part, chosen in task.sets.items()}
        row |= {"cpu_s_median": round(float(np.median(cpu[way])), 2), "cpu_s": [round(one, 2) for one in cpu[way]]}
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def metrics(task: Expression, genes: list[str], values: list[Any]) -> dict[str, Any]:
    """Return the mean PCC of a set of genes: mean and standard deviation (n - 1) over seeds, and every seed's."""
    columns = [task.genes.index(gene) for gene in genes]
    pcc = [float(summarise(task.truth[:, columns], one[:, columns])["pcc_mean"]) for one in values]
    return {"pcc_mean": round(float(np.mean(pcc)), 4), "sd": round(float(np.std(pcc, ddof=1)), 4),
            "pcc": [round(one, 4) for one in pcc]}  # fmt: skip


if __name__ == "__main__":
    main()
