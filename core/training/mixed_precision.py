"""Mixed precision where it is faster by measurement: never because a processor says that it can."""

from __future__ import annotations

import copy
import time

from stzoo.core.training.step import Stepper
from stzoo.core.training.task import Precision

STEPS = 3
"""Timed steps of each kind, after one that warms up; the fastest counts."""
WORTH = 0.95
"""bfloat16 is taken when a step costs less than this share of one in float32: it is the less exact of the two."""


def faster(step: Stepper) -> Precision:
    """Compute the gradients of the first steps both ways, and say which is faster; the task ends as it was."""
    before = copy.deepcopy(step.module.state_dict())  # buffers may move in a forward pass
    seconds = {}
    for halved in (False, True):
        step.halved = halved
        seconds[halved] = min([_time_step(step, number) for number in range(STEPS + 1)][1:])
    step.module.load_state_dict(before)
    step.optimizer.zero_grad(set_to_none=True)
    return Precision.bf16 if seconds[True] < WORTH * seconds[False] else Precision.fp32


def _time_step(step: Stepper, number: int) -> float:
    began = time.perf_counter()
    step.gradients(number)
    return time.perf_counter() - began
