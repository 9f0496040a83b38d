"""One step of training: what is drawn, what is computed, what is refused."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from stzoo.core.runtime.ranks import Ranks
from stzoo.core.training.sharding import average_scalars, clip_gradients, gather_parameters, shard
from stzoo.core.training.task import TrainingError, TrainingTask
from torch import Tensor, nn


class Stepper:
    """Takes the steps of a task.

    Parameters
    ----------
    task
        What a step computes.
    seed, clip, accumulate
        See :func:`stzoo.core.training.loop.fit`.
    ranks, sharded
        The processes that share the global batch, and the modules whose parameters they share as well.
    """

    def __init__(
        self,
        task: TrainingTask,
        seed: int,
        clip: float | None,
        accumulate: int,
        ranks: Ranks,
        sharded: Sequence[nn.Module] = (),
    ) -> None:
        self.task, self.ranks = task, ranks
        self._seed, self._clip, self._parts = seed, math.inf if clip is None else clip, accumulate
        self.module = task.module()
        self._compute = _distribute(_Losses(task, self.module), sharded, ranks)
        self._sharded = bool(sharded) and ranks.world > 1
        self.optimizer = task.optimizer()  # now that its parameters are what they will be
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.losses: dict[str, float] = {}
        self.halved = False
        """Compute in bfloat16 where torch's autocast does."""

    def __call__(self, step: int) -> dict[str, float]:
        """Take one step (0-based); return its row of the log."""
        began = time.perf_counter()
        factor = self.task.learning_rate(step)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        values = self.gradients(step)
        norm = clip_gradients(self._parameters, self._clip)
        _refuse_not_finite(step, {"gradient norm": norm})
        self.optimizer.step()
        self.task.after_step(step)
        self.losses = values
        seconds = round(time.perf_counter() - began, 4)
        return {"step": step, **values, "gradient_norm": norm, "learning_rate": factor, "seconds": seconds}

    def gradients(self, step: int) -> dict[str, float]:
        """Compute the gradients of a step; return its losses, means over the micro-batches and ranks."""
        self.optimizer.zero_grad(set_to_none=True)
        found = [self._part(step, part) for part in range(self._parts)]
        if self._sharded:
            average_scalars(self._parameters, self.ranks.world)
        return {name: sum(one[name] for one in found) / self._parts for name in found[0]}

    def _part(self, step: int, part: int) -> dict[str, float]:
        """Add the gradient of one micro-batch; the ranks' gradients are averaged with the last one."""
        seed = step_seed(self._seed, step, part)
        self._seed_global(seed + self.ranks.rank)
        last = part == self._parts - 1
        apart = nullcontext() if last or not hasattr(self._compute, "no_sync") else self._compute.no_sync()
        with apart:
            with torch.autocast(self._device, torch.bfloat16, enabled=self.halved):
                losses: Mapping[str, Tensor] = self._compute(step, torch.Generator().manual_seed(seed))
            values = self.ranks.mean({name: float(loss.detach()) for name, loss in losses.items()})
            _refuse_wrong_losses(step, values, self.losses)
            (losses["loss"] / self._parts).backward()  # type: ignore[no-untyped-call]
        return values

    def _seed_global(self, seed: int) -> None:
        """Seed what dropout and the like draw from.

        For a module on the CPU that is one generator: ``torch.manual_seed`` also records a traceback for deferred CUDA
        seeding, which costs 0.3 ms a step.
        """
        if self._device == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def whole(self) -> AbstractContextManager[None]:
        """Have all parameters at hand for a while, also where the ranks share them."""
        return gather_parameters(self._compute)

    @property
    def _device(self) -> str:
        return next(self.module.parameters()).device.type


class _Losses(nn.Module):
    """The losses of a task as a module's forward, which is what DDP and FSDP hook into."""

    def __init__(self, task: TrainingTask, trained: nn.Module) -> None:
        super().__init__()
        self.trained = trained
        self._task = task

    def forward(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of a step; only ``"loss"`` has a gradient."""
        losses = self._task.losses(step, generator)
        return {name: loss if name == "loss" else loss.detach() for name, loss in losses.items()}


def _distribute(losses: nn.Module, sharded: Sequence[nn.Module], ranks: Ranks) -> Any:
    """Let the ranks average their gradients, and keep a part each of parameters that are sharded."""
    if ranks.world == 1:
        return losses
    if sharded:
        return shard(losses, sharded, ranks.world)
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(losses, find_unused_parameters=True)


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """Return a 63-bit seed; neighbouring seeds, steps and micro-batches share nothing."""
    name = f"{seed}/{step}" + (f"/{part}" if part else "")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _refuse_wrong_losses(step: int, values: Mapping[str, float], before: Mapping[str, float]) -> None:
    if "loss" not in values:
        raise TrainingError(f"step {step}: the task gives no 'loss' to minimise, only {sorted(values)}")
    if before and values.keys() != before.keys():
        names = ", ".join(sorted(values.keys() ^ before.keys()))
        raise TrainingError(f"step {step}: losses that are not given in every step: {names}")
    _refuse_not_finite(step, values)


def _refuse_not_finite(step: int, values: Mapping[str, float]) -> None:
    bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise TrainingError(
            f"step {step}: {', '.join(bad)}",
            todo="lower the learning rate, or look at the data of this step (seed and step make it again)",
        )
