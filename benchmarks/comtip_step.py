"""Time and peak memory of a training step of CoMTIP against batch size and number of genes.

``python benchmarks/comtip_step.py`` writes benchmarks/results/comtip_step.json. Both towers of `comtip-tiny` and all of
its losses on random inputs (time does not depend on what they are); a process for each size, best of three steps.
Memory is the peak resident set above that of the process before the first step. The exponent is the slope of a line
through log(time) against log(size): 1 is linear cost.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "comtip_step.json"
BATCHES, GENES = (32, 64, 128, 256), (250, 1000, 4000, 16000)
FIXED_BATCH, FIXED_GENES = 64, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, type=int, metavar=("BATCH", "GENES"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.threads)))
        return
    sizes = [(b, FIXED_GENES) for b in BATCHES] + [(FIXED_BATCH, g) for g in GENES if g != FIXED_GENES]
    rows = [child(b, g, options.threads) for b, g in [*sizes, (64, 20_000)]]
    for row in rows:
        print(
            "{batch:4d} spots {genes:6d} genes {seconds:7.3f} s {steps_per_second:6.2f} steps/s {mib:7.0f} MiB".format(
                **row
            )
        )
    fits = {
        "time_against_batch": exponent([r for r in rows if r["genes"] == FIXED_GENES], "batch", "seconds"),
        "time_against_genes": exponent([r for r in rows if r["batch"] == FIXED_BATCH], "genes", "seconds"),
        "memory_against_genes": exponent([r for r in rows if r["batch"] == FIXED_BATCH], "genes", "mib"),
    }
    print(fits)
    result = {"threads": options.threads, "rows": rows, "exponents": fits}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def child(batch: int, genes: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(batch), str(genes), "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(batch: int, genes: int, threads: int) -> dict[str, Any]:
    import torch
    from stzoo.core import config as configs
    from stzoo.core.training.recipes import load_recipe
    from stzoo.plugins.comtip.config import CoMTIPConfig
    from stzoo.plugins.comtip.data import TrainingData
    from stzoo.plugins.comtip.image_tower import N_STATISTICS
    from stzoo.plugins.comtip.network import CoMTIPNetwork
    from stzoo.plugins.comtip.training import CoMTIPTask
    from stzoo.plugins.comtip.vocabulary import Vocabulary

    torch.set_num_threads(threads)
    sizes = {"batch": batch, "genes": genes, "fewest_genes": genes, "ranked_genes": genes}
    every = [f"train.{key}={value}" for key, value in sizes.items()]
    config = configs.build(CoMTIPConfig, load_recipe("comtip", "comtip-tiny", every).config, where="comtip-tiny")
    symbols = [f"G{number}" for number in range(genes)]
    vocabulary = Vocabulary(symbols, config.text)
    network = CoMTIPNetwork(config, genes, vocabulary.n_tokens, vocabulary.n_described)
    data = TrainingData(
        inputs=torch.randn(1, batch, (config.vision.tile_px // config.vision.patch_px) ** 2, N_STATISTICS),
        values=torch.rand(batch, genes) * 4,
        profiles=torch.randn(batch, 20),
        um=torch.rand(batch, 2) * 3000,
        section=torch.zeros(batch, dtype=torch.int64),
    )
    task = CoMTIPTask(network, data, vocabulary.inputs(symbols), config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        task.both.zero_grad()
        task.losses(0, torch.Generator().manual_seed(1))["loss"].backward()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    best = min(seconds)
    return {
        "batch": batch,
        "genes": genes,
        "seconds": round(best, 4),
        "steps_per_second": round(1 / best, 3),
        "mib": round(peak - before, 1),
        "peak_mib": round(peak, 1),
    }


def exponent(rows: list[dict[str, Any]], size: str, cost: str) -> float:
    import numpy as np

    x, y = (np.log([row[key] for row in rows]) for key in (size, cost))
    return round(float(np.polyfit(x, y, 1)[0]), 3)


if __name__ == "__main__":
    main()
