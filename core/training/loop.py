"""The training loop: one for every method in the house.

A method says what one step computes (:class:`TrainingTask`); the loop does the rest: learning rate, clipping,
accumulation, checkpoints, validation, logs, the bar, Ctrl-C, ranks. All randomness of a step comes from (seed, step),
so a run that was killed and resumed ends, on a CPU, with the very bits of one that never stopped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stzoo.core.errors import UsageError
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.training.bar import training_bar
from stzoo.core.training.log import training_log
from stzoo.core.training.run import Run
from stzoo.core.training.step import Stepper
from stzoo.core.training.stop import stop_request
from stzoo.core.training.task import Fit, Interrupted, Precision, TrainingError, TrainingTask, Validation
from stzoo.core.training.trackers import tracking
from stzoo.core.training.validation import Judge
from torch import nn

__all__ = ["Fit", "Interrupted", "Precision", "TrainingError", "TrainingTask", "Validation", "fit", "fit_short"]


def fit(
    task: TrainingTask,
    *,
    out: Path,
    steps: int,
    seed: int,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    checkpoint_every: int = 200,
    clip: float | None = 1.0,
    progress: bool = True,
    validation: Validation | None = None,
    accumulate: int = 1,
    precision: Precision | str = Precision.fp32,
    trackers: Sequence[str] = (),
    ranks: Ranks = ALONE,
    sharded: Sequence[nn.Module] = (),
) -> Fit:
    """Train a task, and leave its module trained.

    Parameters
    ----------
    task
        What a step computes.
    out
        Folder of the run: ``checkpoints/``, ``log.csv`` (step, losses, gradient norm, rate factor, seconds), and with
        validation ``best/`` and ``validation.csv``.
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
    validation
        How to judge the weights while the run goes on, when to stop early, and whether to keep the best.
    accumulate
        Micro-batches a step: losses and gradients are means over so many calls of :meth:`TrainingTask.losses`. A
        contrastive loss sees the negatives of its micro-batch only, so this is not the same as a larger batch.
    precision
        ``"fp32"``, ``"bf16"`` or ``"auto"`` (:class:`~stzoo.core.training.task.Precision`); a resume goes on with what
        was chosen.
    trackers
        Names of trackers (``stzoo plugins list``) that are told every row of the logs; the CSV files are always there.
    ranks
        The processes that share a step (:func:`stzoo.core.runtime.ranks.join_ranks`). The task computes this rank's
        share of the global batch; gradients and losses are averaged, rank 0 writes.
    sharded
        With ranks: the blocks of a module that is too large for each of them to keep (FSDP2). Every rank keeps a part
        of all parameters, and a block is whole only while it runs; checkpoints hold whole tensors, as ever.

    Returns
    -------
    The last losses, the steps done, and how validation went.

    Raises
    ------
    TrainingError
        A loss, gradient or metric that is not finite; the weights stay as the step found them, checkpoints as they are.
    Interrupted
        Ctrl-C or SIGTERM, after the running step and a checkpoint. A second one stops at once.
    LostRankError
        Another rank went away; the last checkpoint is whole.
    ConfigError
        ``resume`` with another seed, clip, accumulation, precision or config, or with fewer steps than are done.
    OutputError
        ``out`` holds a run already and ``resume`` is false, or can not be written.
    """
    for name, value in (("checkpoint_every", checkpoint_every), ("accumulate", accumulate)):
        if value < 1:
            raise UsageError(f"{name} is {value}", todo="give a whole number, 1 or more")
    precision = Precision.read(precision)
    identity = {
        "seed": seed,
        "clip": clip,
        "accumulate": accumulate,
        "precision": precision.value,
        "validation": validation.identity() if validation else None,
        "config": dict(config or {}),
    }
    run = Run(Stepper(task, seed, clip, accumulate, ranks, sharded), Judge(validation), Path(out), identity, ranks)
    with ranks.together():
        start = run.begin(resume, steps, precision)
        done = start if run.judge.gave_up else _go(run, start, steps, checkpoint_every, progress, trackers)
        if run.judge.keeps_best:
            run.take_best()
    judge = run.judge
    losses, stopped_early = dict(run.step.losses), done < steps
    return Fit(losses, done, judge.best_step, judge.metrics, stopped_early, run.precision)


def fit_short(task: TrainingTask, *, steps: int, seed: int, clip: float | None = 1.0) -> None:
    """Train a task inside another call: it is short, so nobody resumes it, and its checkpoints go with it.

    Parameters
    ----------
    task, steps, seed, clip
        See :func:`fit`.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C or SIGTERM, after the running step.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            fit(task, out=Path(scratch), steps=steps, seed=seed, checkpoint_every=steps, clip=clip, progress=False)
        except Interrupted:
            raise KeyboardInterrupt from None  # there is no checkpoint to speak of


def _go(run: Run, start: int, steps: int, checkpoint_every: int, progress: bool, trackers: Sequence[str]) -> int:
    """Take the steps that are left; return how many are done in the end."""
    shown: dict[str, float] = {}
    writes = run.ranks.is_main
    with (
        run.training(),
        stop_request() as stop,
        training_log(run.out / "log.csv", start, active=writes) as log,
        training_log(run.out / "validation.csv", start + 1, active=writes) as log_validation,
        tracking(trackers if writes else (), run.out, run.identity) as track,
        training_bar(show=progress and writes) as bar,
    ):
        bar(start, steps, shown)
        for done in range(start + 1, steps + 1):
            row = run.step(done - 1)
            log(row)
            track(done, row)
            shown["loss"] = row["loss"]
            judged = run.judge.is_due(done, steps)
            if judged:
                row = run.validate(done)
                log_validation(row)
                track(done, {f"validation/{name}": value for name, value in row.items() if name != "step"})
                shown |= {name: row[name] for name in run.judge.watched}
            bar(done, steps, shown)
            stopped, over = run.ranks.any(stop.is_set()), run.judge.gave_up or done == steps
            if stopped or over or done % checkpoint_every == 0:
                run.save(done)
            if over:
                return done
            if stopped:
                raise Interrupted(
                    f"stopped after step {done} of {steps}; the checkpoint is in {run.out / 'checkpoints'}\n"
                    "  do:    go on with the same command and --resume (resume=True)"
                )
    return start
