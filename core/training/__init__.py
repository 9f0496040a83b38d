"""The one training loop: steps, checkpoints, validation, logs, ranks, recipes, trackers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stzoo.core.runtime.public import offer

if TYPE_CHECKING:
    from stzoo.core.training.log import read_log as read_log
    from stzoo.core.training.loop import fit as fit
    from stzoo.core.training.loop import fit_short as fit_short
    from stzoo.core.training.recipes import load_recipe as load_recipe
    from stzoo.core.training.task import Fit as Fit
    from stzoo.core.training.task import Interrupted as Interrupted
    from stzoo.core.training.task import Precision as Precision
    from stzoo.core.training.task import TrainingError as TrainingError
    from stzoo.core.training.task import TrainingTask as TrainingTask
    from stzoo.core.training.task import Validation as Validation
    from stzoo.core.training.trackers import Tracker as Tracker

_HOMES = {
    "Fit": "task",
    "Interrupted": "task",
    "Precision": "task",
    "TrainingTask": "task",
    "Tracker": "trackers",
    "TrainingError": "task",
    "Validation": "task",
    "fit": "loop",
    "fit_short": "loop",
    "load_recipe": "recipes",
    "read_log": "log",
}

__all__ = sorted(_HOMES)
__getattr__ = offer(__name__, _HOMES)
