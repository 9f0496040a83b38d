"""Train CoMTIP's tiny recipe with one rank and with two, at the same global batch, and compare the losses.

Run ``python benchmarks/ranks.py --data FOLDER`` (the folder that holds ``her2st``); it writes
``benchmarks/results/ranks.json``. Every rank computes with one thread, so two ranks use two cores and one rank uses
one. What a step costs is told in seconds of the wall (medians), which other programs on the machine disturb, and in
seconds of the slower rank's processor, which leave out how long it waits for the other. The wait for data is the
time that a step spends to draw its batch and to fetch the batch's tiles and values.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from stzoo.core.io.read import data_source, read
from stzoo.core.runtime.ranks import join_ranks
from stzoo.core.training.log import read_log
from stzoo.core.training.loop import fit
from stzoo.core.training.recipes import load_recipe
from stzoo.plugins.comtip.data import gather
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.plugins.comtip.training import CoMTIPTask, initialise_weights

RESULTS = Path(__file__).parent / "results" / "ranks.json"
RECIPE = "comtip-tiny"


class Timed(CoMTIPTask):
    """The task, with a clock on its data and on each step."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.waited, self.steps = 0.0, list[tuple[float, float, float]]()
        for name in ("draw", "_batch"):
            setattr(self, name, self._clocked(getattr(self, name)))

    def losses(self, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:  # noqa: D102
        self.waited, self.began = 0.0, (time.perf_counter(), time.process_time())
        return super().losses(step, generator)

    def _clocked(self, function: Any) -> Any:
        def run(*given: Any) -> Any:
            start = time.perf_counter()
            found = function(*given)
            self.waited += time.perf_counter() - start
            return found

        return run

    def after_step(self, step: int) -> None:  # noqa: D102
        super().after_step(step)
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        self.steps.append((wall, cpu, self.waited))


def train(rank: int, world: int, port: int, folder: Path, steps: int, model: CoMTIP, given: tuple[Any, ...]) -> None:
    """Be one rank."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    network, data, genes = given
    network = copy.deepcopy(network)  # what was handed over lies in memory that all processes share
    torch.manual_seed(model.seed + 1)
    with join_ranks() as ranks:
        task = Timed(network, data, genes, model.config, ranks=ranks)
        fit(task, out=folder, steps=steps, seed=model.seed, progress=False, ranks=ranks)
        (folder / f"rank{rank}.json").write_text(json.dumps(task.steps), encoding="utf-8")


def run(world: int, folder: Path, steps: int, model: CoMTIP, given: tuple[Any, ...]) -> dict[str, Any]:
    """Train with so many ranks; return the losses of every step, and what a step costs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(train, args=(world, port, folder, steps, model, given), nprocs=world)  # type: ignore[no-untyped-call]
    clocks = [json.loads(file.read_text()) for file in sorted(folder.glob("rank*.json"))]
    wall, cpu = (max(statistics.median(row[i] for row in rows[1:]) for rows in clocks) for i in range(2))
    share = max(sum(row[2] for row in rows) / sum(row[0] for row in rows) for rows in clocks)
    log = read_log(folder / "log.csv")
    losses = [{k: float(v) for k, v in row.items() if k not in ("step", "seconds")} for row in log]
    return {
        "losses": losses,
        "step_seconds": round(wall, 4),
        "step_cpu_seconds": round(cpu, 4),
        "data_wait_share": round(share, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe("comtip", RECIPE)
    sections = [read(data_source(source, chosen.data)) for source in recipe.sections]
    model = CoMTIP(recipe.config, seed=recipe.seed)
    weights = initialise_weights(sections, model.config, model.seed)
    genes = list(weights.vocabulary.genes)
    with tempfile.TemporaryDirectory() as scratch:
        data = gather(sections, genes, model.config, model.seed, cache=Path(scratch) / "cache")
        given = (weights.network, data, weights.vocabulary.inputs(genes))
        one, two = (run(world, Path(scratch) / str(world), chosen.steps, model, given) for world in (1, 2))
    apart = {
        name: max(abs(a[name] - b[name]) for a, b in zip(one["losses"], two["losses"], strict=True))
        for name in one["losses"][0]
    }
    result = {
        "recipe": RECIPE,
        "spots": len(given[1].values),
        "global_batch": model.config.train.batch,
        "steps": chosen.steps,
        "threads_of_a_rank": 1,
        "backend": "gloo",
        "largest_difference_of_the_curves": {name: float(f"{value:.2e}") for name, value in apart.items()},
        "last_losses_of_one_rank": one["losses"][-1],
        "last_losses_of_two_ranks": two["losses"][-1],
        "speed_up_wall": round(one["step_seconds"] / two["step_seconds"], 3),
        "speed_up_cpu_of_the_slower_rank": round(one["step_cpu_seconds"] / two["step_cpu_seconds"], 3),
        **{
            f"{name}_of_{label}": found[name]
            for label, found in (("one", one), ("two", two))
            for name in ("step_seconds", "step_cpu_seconds", "data_wait_share")
        },
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
