"""Memory, measured in a process of its own: it grows with the spots, never with their square."""

from __future__ import annotations

import pickle
import sys

from stzoo.core.testing.cases import Case
from stzoo.core.testing.checks import MODELS, FaultError, SkippedError, check
from stzoo.core.testing.worker import in_process

SLACK = 24 << 20
"""Bytes that are not counted: what the allocator rounds up."""
PER_SPOT = 256 << 10
"""Bytes that a spot of 40 genes may cost at most."""
DENSER = (2, 4)
"""So many times as many spots along each axis."""


@check(*MODELS)
def memory_is_bounded(case: Case) -> None:
    """With four times as many spots, peak memory grows by four at most, and a spot costs no more than 256 KiB."""
    if not sys.platform.startswith("linux"):
        raise SkippedError("the peak of a process is read from /proc, which Linux alone has")
    given = pickle.dumps(case.fresh()), pickle.dumps(case.sections), DENSER
    (few, small), (many, large) = in_process("peaks", *given)
    if large > small * many / few + SLACK or large > PER_SPOT * many + SLACK:
        raise FaultError(
            f"asking about {few} spots took {small >> 20} MiB, about {many} spots {large >> 20} MiB",
            "work in blocks of spots, and make no matrix of all spots by all spots",
        )
