"""A small training run in a process of its own, made to be killed: ``python resumable_run.py OUT STEPS EVERY WIDTH``.

Also the task of tests/core/training/test_loop.py and of benchmarks/resume.py.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from stzoo.core.training.loop import Validation, fit
from torch import nn


class Toy:
    """A regression with what makes resuming hard: dropout, AdamW moments, a schedule, an average of the weights."""

    def __init__(self, width: int = 64, steps: int = 20) -> None:
        torch.manual_seed(0)
        self.steps = steps
        network = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Dropout(0.2), nn.Linear(width, 1))
        average = copy.deepcopy(network)
        self.everything = nn.ModuleDict({"network": network, "average": average})
        for parameter in average.parameters():
            parameter.requires_grad_(False)
        decay = [p for p in network.parameters() if p.ndim > 1]
        rest = [p for p in network.parameters() if p.ndim == 1]
        self.adamw = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "lr": 1e-2}], lr=3e-3)

    def module(self) -> nn.Module:
        return self.everything

    def optimizer(self) -> torch.optim.Optimizer:
        return self.adamw

    def learning_rate(self, step: int) -> float:
        return 1 - step / self.steps

    def losses(self, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        x = torch.randn(16, 8, generator=generator)
        error = self.everything["network"](x)[:, 0] - x.sum(1)
        return {"loss": error.square().mean(), "absolute": error.abs().mean()}

    def after_step(self, step: int) -> None:
        with torch.no_grad():
            for average, now in zip(
                self.everything["average"].parameters(), self.everything["network"].parameters(), strict=True
            ):
                average.lerp_(now, 0.1)


def nearness(task: Toy) -> dict[str, float]:
    """Return a score that rises and then falls, so that patience runs out: how near to 0.3 the error is."""
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    error = float((task.everything["average"](x)[:, 0] - x.sum(1)).square().mean())
    return {"pcc": -abs(error - 0.3), "error": error}


def run(
    out: Path, steps: int, every: int, *, width: int = 64, schedule: int | None = None, patience: int = 0
) -> dict[str, torch.Tensor]:
    """Train (or go on) and return every tensor at the end; the schedule is that of ``schedule`` steps.

    With ``patience`` the run is validated every third step, stops early, and ends with its best weights.
    """
    torch.set_num_threads(1)
    task = Toy(width, schedule or steps)
    fit(
        task,
        out=out,
        steps=steps,
        seed=3,
        config={"width": width},
        resume=True,
        checkpoint_every=every,
        validation=Validation(lambda: nearness(task), 3, patience) if patience else None,
    )
    return {name: tensor.clone() for name, tensor in task.module().state_dict().items()}


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), width=int(sys.argv[4]))
