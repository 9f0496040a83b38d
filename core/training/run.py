"""A run between its first step and its last: its place on the disk, what it resumes from, what it ends with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from stzoo.core.errors import ConfigError, OutputError, WeightsError
from stzoo.core.runtime.outputs import check_output
from stzoo.core.runtime.ranks import Ranks
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.training.checkpoint import (
    Checkpoint,
    checkpoint_folders,
    load_best,
    load_checkpoint,
    pack_optimizer,
    refuse_other_run,
    save_best,
    save_checkpoint,
    sweep,
    unpack_optimizer,
)
from stzoo.core.training.mixed_precision import faster
from stzoo.core.training.sharding import shard_like, whole
from stzoo.core.training.step import Stepper
from stzoo.core.training.task import Precision
from stzoo.core.training.validation import Judge
from torch import Tensor


class Run:
    """A task's steps, with the checkpoints of ``out``.

    Parameters
    ----------
    step
        Takes the steps.
    judge
        Validates.
    out, identity
        Folder of the run, and what must be the same when it goes on (JSON values).
    ranks
        Rank 0 alone writes; all of them read.
    """

    def __init__(self, step: Stepper, judge: Judge, out: Path, identity: Mapping[str, Any], ranks: Ranks) -> None:
        self.step, self.judge, self.out, self.identity, self.ranks = step, judge, out, identity, ranks
        self.module, self.optimizer = step.module, step.optimizer

    @property
    def precision(self) -> Precision:
        """What the steps are computed in."""
        return Precision.bf16 if self.step.halved else Precision.fp32

    def begin(self, resume: bool, steps: int, precision: Precision) -> int:
        """Return the number of steps done, with the state after them in place."""
        check_output(self.out, overwrite=True)
        if not resume and checkpoint_folders(self.out):
            todo = "go on with --resume (resume=True), or choose another folder"
            raise OutputError(f"{self.out} holds a training run already", todo=todo)
        self.ranks.barrier()  # nobody writes before all have looked
        if self.ranks.is_main:
            sweep(self.out)
        found = load_checkpoint(self.out) if resume else None
        if found is None:
            self._choose(precision)
            return 0
        refuse_other_run(found, self.identity, self.out)
        if found.step > steps:
            raise ConfigError(f"{found.step} steps are done, more than the {steps} asked for", where=self.out)
        self._restore(found)
        try:
            unpack_optimizer(self.optimizer, found.tensors, found.optimizer)
        except (RuntimeError, ValueError, IndexError) as error:
            raise self._unfit(error) from error
        self.step.losses = dict(found.losses)
        self.step.halved = found.run["precision"] == Precision.bf16
        self.judge.restore(found.run["validation"])
        return found.step

    def save(self, done: int) -> None:
        """Write a checkpoint after ``done`` steps."""
        tensors, rest = pack_optimizer(self.optimizer)
        tensors.update(self._weights())
        if self.ranks.is_main:
            save_checkpoint(self.out, self._checkpoint(done, tensors, rest))
        self.ranks.barrier()

    def save_best(self, done: int) -> None:
        """Write the weights after ``done`` steps as the best so far."""
        weights = self._weights()
        if self.ranks.is_main:
            save_best(self.out, self._checkpoint(done, weights, {}))

    def take_best(self) -> None:
        """Give the module the weights of the best validation."""
        if self.judge.best_step is not None:
            self._restore(load_best(self.out, self.judge.best_step))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Put the module into training mode; leave it, the optimiser's rates and torch's generators as they were."""
        was_training = self.module.training
        with keeping_generators():
            self.module.train()
            try:
                yield
            finally:
                self.module.train(was_training)
                for group, rate in zip(self.optimizer.param_groups, self.step.base_rates, strict=True):
                    group["lr"] = rate

    def validate(self, done: int) -> dict[str, float]:
        """Judge the weights after ``done`` steps; return the row of ``validation.csv``."""
        self.module.eval()
        try:
            with keeping_generators(), torch.no_grad(), self.step.whole():
                metrics = self.ranks.broadcast(self.judge.score(done))
        finally:
            self.module.train()
        if self.judge.take(done, metrics):
            self.save_best(done)
        return {"step": done, **metrics, "best_step": self.judge.best_step or 0}

    def _choose(self, precision: Precision) -> None:
        self.step.halved = precision is Precision.bf16
        if precision is Precision.auto:
            with self.training():
                self.step.halved = self.ranks.broadcast(faster(self.step) == Precision.bf16)
            self.save(0)  # a resume from here must not choose again

    def _checkpoint(self, done: int, tensors: dict[str, Tensor], rest: dict[str, Any]) -> Checkpoint:
        run = {"precision": self.precision.value, "validation": self.judge.state()}
        return Checkpoint(done, self.identity, self.step.losses, tensors, rest, run)

    def _weights(self) -> dict[str, Tensor]:
        return {f"module.{name}": whole(tensor) for name, tensor in self.module.state_dict().items()}

    def _restore(self, found: Checkpoint) -> None:
        weights = {k.removeprefix("module."): t for k, t in found.tensors.items() if k.startswith("module.")}
        try:
            self.module.load_state_dict(shard_like(self.module.state_dict(), weights))
        except RuntimeError as error:
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> WeightsError:
        todo = "resume with the version of the method that started the run"
        return WeightsError(f"the checkpoint does not fit: {error}", where=self.out, todo=todo)


@contextmanager
def keeping_generators() -> Iterator[None]:
    """Leave torch's generators as they were."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with use_seed(0, devices=cuda):  # each step seeds them again
        yield
