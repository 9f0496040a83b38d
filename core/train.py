"""The training loop: one for every method in the house.

A method says what one step computes (:class:`Task`); the loop does the rest: learning rate, clipping, checkpoints, the
log, the bar, Ctrl-C. All randomness of a step comes from (seed, step), so a run that was killed and resumed
ends, on a CPU, with the very bits of one that never stopped.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from stzoo.core.checkpoint import (
    Checkpoint,
    checkpoint_folders,
    load_checkpoint,
    pack_optimizer,
    refuse_other_run,
    save_checkpoint,
    sweep,
    unpack_optimizer,
)
from stzoo.core.errors import ConfigError, OutputError, StzooError, UsageError, WeightsError
from stzoo.core.output import check_output
from stzoo.core.progress import progress_bar
from stzoo.core.seeding import seeded
from stzoo.core.train_log import training_log
from torch import Tensor, nn


class TrainingError(StzooError):
    """A step that can not be taken: its loss or gradient is not finite."""


class Interrupted(KeyboardInterrupt):
    """Training stopped on request (Ctrl-C, SIGTERM), with a checkpoint; the message says how to go on."""


class Task(Protocol):
    """What one method computes in a step."""

    def module(self) -> nn.Module:
        """Return everything that is trained, also what only training uses; averages (EMA) are buffers of it."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser over parameters of :meth:`module`; asked for once."""

    def learning_rate(self, step: int) -> float:
        """Return the factor on each group's learning rate in a step (0-based)."""

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of a step: the same names every time, scalars; ``"loss"`` is minimised.

        What is drawn from ``generator`` (on the CPU) or from torch's global one, which is seeded alike, depends
        on the seed and the step only.
        """

    def after_step(self, step: int) -> None:
        """Do what follows the optimiser's step, e.g. update an average of the weights."""


def fit(
    task: Task,
    *,
    out: Path,
    steps: int,
    seed: int,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    checkpoint_every: int = 200,
    clip: float | None = 1.0,
    progress: bool = True,
) -> dict[str, float]:
    """Train a task, and leave its module trained.

    Parameters
    ----------
    task
        What a step computes.
    out
        Folder of the run: ``checkpoints/`` and ``log.csv`` (step, losses, gradient norm, rate factor, seconds).
    steps
        Steps in all, those before a resume included.
    seed
        Seed of all randomness of the steps.
    config
        Configuration of the run as JSON values; a resume under another one is refused.
    resume
        Go on from the last whole checkpoint in ``out``; from the start when there is none.
    checkpoint_every
        Steps between checkpoints; there is one at the end as well.
    clip
        Largest gradient norm, None for no limit.
    progress
        Draw a bar (on a terminal only).

    Returns
    -------
    Losses of the last step.

    Raises
    ------
    TrainingError
        A loss or gradient that is not finite; the weights stay as the step found them, checkpoints as they are.
    Interrupted
        Ctrl-C or SIGTERM, after the running step and a checkpoint. A second one stops at once.
    ConfigError
        ``resume`` with another seed, clip or config, or with fewer steps than are done.
    OutputError
        ``out`` holds a run already and ``resume`` is false, or can not be written.
    """
    if checkpoint_every < 1:
        raise UsageError(f"checkpoint_every is {checkpoint_every}", todo="give a number of steps, 1 or more")
    run = _Run(task, Path(out), {"seed": seed, "clip": clip, "config": dict(config or {})})
    _go(run, run.begin(resume, steps), steps, checkpoint_every, progress)
    return run.losses


def _go(run: _Run, start: int, steps: int, checkpoint_every: int, progress: bool) -> None:
    with (
        run.training(),
        _stop_request() as stop,
        training_log(run.out / "log.csv", start) as log,
        progress_bar("train", show=progress) as bar,
    ):
        bar(start, steps)
        for done in range(start + 1, steps + 1):
            log(run.step(done - 1))
            bar(done, steps)
            if stop.is_set() or done % checkpoint_every == 0 or done == steps:
                run.save(done)
            if stop.is_set() and done < steps:
                raise Interrupted(
                    f"stopped after step {done} of {steps}; the checkpoint is in {run.out / 'checkpoints'}\n"
                    "  do:    go on with the same command and --resume (resume=True)"
                )


class _Run:
    """A task with its optimiser, between the first step and the last."""

    def __init__(self, task: Task, out: Path, identity: dict[str, Any]) -> None:
        self.task, self.out, self.identity = task, out, identity
        self.module = task.module()
        self.optimizer = task.optimizer()
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.losses: dict[str, float] = {}

    def begin(self, resume: bool, steps: int) -> int:
        """Return the first step to take, with the state before it in place."""
        check_output(self.out, overwrite=True)
        if not resume and checkpoint_folders(self.out):
            todo = "go on with --resume (resume=True), or choose another folder"
            raise OutputError(f"{self.out} holds a training run already", todo=todo)
        sweep(self.out)
        found = load_checkpoint(self.out) if resume else None
        if found is None:
            return 0
        refuse_other_run(found, self.identity, self.out)
        if found.step > steps:
            raise ConfigError(f"{found.step} steps are done, more than the {steps} asked for", where=self.out)
        weights = {k.removeprefix("module."): t for k, t in found.tensors.items() if k.startswith("module.")}
        try:
            self.module.load_state_dict(weights)
            unpack_optimizer(self.optimizer, found.tensors, found.optimizer)
        except (RuntimeError, ValueError) as error:
            todo = "resume with the version of the method that started the run"
            raise WeightsError(f"the checkpoint does not fit: {error}", where=self.out, todo=todo) from error
        self.losses = dict(found.losses)
        return found.step

    def step(self, step: int) -> dict[str, float]:
        """Take one step; return its row of the log."""
        began = time.perf_counter()
        seed = _step_seed(self.identity["seed"], step)
        torch.manual_seed(seed)  # for dropout and the like, which draw from the global generator
        factor = self.task.learning_rate(step)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        losses = self.task.losses(step, torch.Generator().manual_seed(seed))
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        _refuse_wrong_losses(step, values, self.losses)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        limit = math.inf if self.identity["clip"] is None else self.identity["clip"]
        norm = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        _refuse_not_finite(step, {"gradient norm": norm})
        self.optimizer.step()
        self.task.after_step(step)
        self.losses = values
        seconds = round(time.perf_counter() - began, 4)
        return {"step": step, **values, "gradient_norm": norm, "learning_rate": factor, "seconds": seconds}

    def save(self, done: int) -> None:
        """Write a checkpoint after ``done`` steps."""
        tensors, rest = pack_optimizer(self.optimizer)
        tensors.update({f"module.{name}": tensor for name, tensor in self.module.state_dict().items()})
        save_checkpoint(self.out, Checkpoint(done, self.identity, self.losses, tensors, rest))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Put the module into training mode; leave it, the optimiser's rates and torch's generators as they were."""
        was_training = self.module.training
        cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        with seeded(self.identity["seed"], devices=cuda):  # each step seeds it again
            self.module.train()
            try:
                yield
            finally:
                self.module.train(was_training)
                for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                    group["lr"] = rate


def _step_seed(seed: int, step: int) -> int:
    """Return a 63-bit seed; neighbouring seeds and steps share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "big") >> 1


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


@contextmanager
def _stop_request() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets; the next one acts as ever."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[number] or signal.SIG_DFL)

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
