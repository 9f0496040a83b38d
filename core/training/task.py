"""What the training loop asks of a method, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from stzoo.core.errors import StzooError, UsageError, nearest

if TYPE_CHECKING:  # the options of a model name Precision, and are read without torch
    import torch
    from torch import Tensor, nn


class Precision(StrEnum):
    """What the steps of a run are computed in."""

    fp32 = "fp32"
    bf16 = "bf16"
    """bfloat16 where torch's autocast takes it; weights, optimiser and sums stay in float32."""
    auto = "auto"
    """Whichever took a few real steps less time at the start of the run."""

    @classmethod
    def read(cls, name: str) -> Precision:
        """Return the precision of a name, or refuse it with a UsageError."""
        known = [one.value for one in cls]
        if name not in known:
            raise UsageError(f"no precision '{name}'{nearest(name, known)}", todo=f"one of {', '.join(known)}")
        return cls(name)


class TrainingError(StzooError):
    """A step that can not be taken: its loss or gradient is not finite."""


class Interrupted(KeyboardInterrupt):
    """Training stopped on request (Ctrl-C, SIGTERM), with a checkpoint; the message says how to go on."""


class TrainingTask(Protocol):
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
        on the seed and the step only. With accumulation it is called several times a step, each time with a
        generator of its own.
        """

    def after_step(self, step: int) -> None:
        """Do what follows the optimiser's step, e.g. update an average of the weights."""


@dataclass(frozen=True)
class Validation:
    """How a run is judged while it goes on.

    Parameters
    ----------
    score
        Returns metrics, finite and by the same names every time; called with the module in evaluation mode and
        without gradients. What it draws from torch's generators is not felt by the training. Every rank calls it.
    every
        Steps between validations; there is one after the last step as well.
    patience
        Validations without improvement after which the run ends; 0 for never.
    watch
        The metric that is to rise.
    keep_best
        The module ends with the weights of the best validation, not with those of the last step.

    Raises
    ------
    UsageError
        ``every`` below 1, or ``patience`` below 0.
    """

    score: Callable[[], Mapping[str, float]]
    every: int
    patience: int = 0
    watch: str = "pcc"
    keep_best: bool = True

    def __post_init__(self) -> None:
        """Refuse what can not be meant."""
        if self.every < 1:
            raise UsageError(f"validation every {self.every} steps", todo="give a number of steps, 1 or more")
        if self.patience < 0:
            raise UsageError(
                f"patience is {self.patience}", todo="give a number of validations, or 0 for no early stop"
            )

    def identity(self) -> dict[str, Any]:
        """Return what must be the same when a run goes on, as JSON values."""
        return {name: getattr(self, name) for name in ("every", "patience", "watch", "keep_best")}


@dataclass(frozen=True)
class Fit:
    """What became of a run.

    Parameters
    ----------
    losses
        Of the last step; with ranks, of the global batch.
    steps
        Steps done.
    best_step
        Steps done at the best validation; None without validation.
    validation
        Metrics of the weights that the module ends with: those of the best validation, or (``keep_best=False``) of the
        last one; empty without validation.
    stopped_early
        Patience ran out before the last step.
    precision
        What the steps were computed in: never ``auto``, but what that chose.
    """

    losses: Mapping[str, float]
    steps: int
    best_step: int | None = None
    validation: Mapping[str, float] = field(default_factory=dict)
    stopped_early: bool = False
    precision: Precision = Precision.fp32
