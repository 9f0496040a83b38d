"""A small run that several processes share: ``python ranked_run.py OUT STEPS ddp|fsdp [--die STEP] [--stop STEP]``.

Which rank it is, the environment says (torchrun's variables). ``--die`` kills rank 1 with -9 in the middle of a step,
``--stop`` sends SIGTERM to rank 1 only.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
from resumable_run import Toy
from stzoo.core.errors import StzooError
from stzoo.core.runtime.ranks import ALONE, Ranks, join_ranks
from stzoo.core.training.loop import Fit, Interrupted, Validation, fit
from torch import nn

ROWS = 17  # an odd number: the ranks' shares differ


class Shared(Toy):
    """The toy without dropout, each rank computing its share of the global batch."""

    def __init__(self, ranks: Ranks = ALONE, die: int = -1, stop: int = -1) -> None:
        super().__init__(64, 20)
        self.ranks, self.die, self.stop = ranks, die, stop
        for dropout in [m for m in self.everything.modules() if isinstance(m, nn.Dropout)]:
            dropout.p = 0.0

    def blocks(self) -> list[nn.Module]:
        return [self.everything["network"][0], self.everything["average"][0]]

    def optimizer(self) -> torch.optim.Optimizer:
        network = self.everything["network"]
        groups = [{"params": [p for p in network.parameters() if p.ndim == n], "lr": 3e-3 * n} for n in (1, 2)]
        return torch.optim.AdamW(groups)

    def losses(self, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if self.ranks.rank == 1 and step == self.die:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ranks.rank == 1 and step == self.stop:
            self.stop = -1  # once: a second one stops at once
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.randn(ROWS, 8, generator=generator)[self.ranks.share(ROWS)]
        error = self.everything["network"](x)[:, 0] - x.sum(1)
        weight = self.ranks.weight(ROWS)
        return {"loss": weight * error.square().mean(), "absolute": weight * error.abs().mean()}

    def score(self) -> dict[str, float]:
        x = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
        return {"pcc": -float((self.everything["average"](x)[:, 0] - x.sum(1)).square().mean())}


def run(
    out: Path, steps: int, ranks: Ranks = ALONE, mode: str = "ddp", die: int = -1, stop: int = -1
) -> tuple[Shared, Fit]:
    """Train, or go on."""
    torch.set_num_threads(1)
    task = Shared(ranks, die, stop)
    done = fit(
        task,
        out=out,
        steps=steps,
        seed=3,
        resume=True,
        checkpoint_every=4,
        accumulate=2,
        validation=Validation(task.score, 3),
        ranks=ranks,
        sharded=task.blocks() if mode == "fsdp" else (),
    )
    return task, done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("mode")
    parser.add_argument("--die", type=int, default=-1)
    parser.add_argument("--stop", type=int, default=-1)
    chosen = parser.parse_args()
    with join_ranks() as ranks:
        try:
            for mode in chosen.mode.split("+"):
                run(chosen.out / mode, chosen.steps, ranks, mode, chosen.die, chosen.stop)
        except (StzooError, Interrupted) as error:
            sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
