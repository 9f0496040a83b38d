"""Validation while a run goes on: the best so far, and when to give up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from stzoo.core.training.task import TrainingError, Validation


class Judge:
    """State of validation and early stopping; all of it is in the checkpoint.

    Parameters
    ----------
    validation
        How to judge, or None for a run that is not judged.
    """

    def __init__(self, validation: Validation | None) -> None:
        self.validation = validation
        self.best_step: int | None = None
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self._waited = 0

    def is_due(self, done: int, steps: int) -> bool:
        """Say whether to validate after ``done`` of ``steps`` steps."""
        return self.validation is not None and (done % self.validation.every == 0 or done == steps)

    @property
    def gave_up(self) -> bool:
        """Whether patience has run out."""
        patience = self.validation.patience if self.validation else 0
        return 0 < patience <= self._waited

    @property
    def keeps_best(self) -> bool:
        """Whether the run ends with the best weights."""
        return self.validation is not None and self.validation.keep_best

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the weights that the run ends with."""
        return dict(self.best if self.keeps_best else self.last)

    @property
    def watched(self) -> tuple[str, ...]:
        """The metric that the bar shows."""
        return (self.validation.watch,) if self.validation else ()

    def score(self, done: int) -> dict[str, float]:
        """Return the metrics of the module as it is.

        Raises
        ------
        TrainingError
            The metric to watch is missing, one is not finite, or the names are not those of before.
        """
        assert self.validation is not None
        torch.manual_seed(done)
        found = {name: float(value) for name, value in self.validation.score().items()}
        where, watch = f"validation after step {done}", self.validation.watch
        if watch not in found:
            raise TrainingError(f"{where}: no metric '{watch}' to watch, only {sorted(found)}")
        if self.last and found.keys() != self.last.keys():
            raise TrainingError(f"{where}: metrics {sorted(found)}, before that {sorted(self.last)}")
        bad = [f"{name} = {value}" for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(f"{where}: {', '.join(bad)}", todo="look at the data that it is scored on")
        return found

    def take(self, done: int, metrics: dict[str, float]) -> bool:
        """Record the scores of a validation; return whether they are the best so far."""
        assert self.validation is not None
        watch = self.validation.watch
        self.last = metrics
        if self.best_step is not None and metrics[watch] <= self.best[watch]:
            self._waited += 1
            return False
        self.best_step, self.best, self._waited = done, metrics, 0
        return self.keeps_best

    def state(self) -> dict[str, Any]:
        """Return what a resume needs, as JSON values."""
        return {"best_step": self.best_step, "best": self.best, "last": self.last, "waited": self._waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self.best_step, self._waited = state["best_step"], state["waited"]
        self.best, self.last = dict(state["best"]), dict(state["last"])
