"""Memory, measured in a process of its own: it grows with the spots, never with their square."""

from __future__ import annotations

import pickle
import sys

from stzoo.core.testing.cases import Case
from stzoo.core.testing.checks import MODELS, FaultError, SkippedError, check
from stzoo.core.testing.worker import in_process

SLACK = 24 << 20
"""Bytes that are not counted: what the allocator rounds up."""
PER_SPOT = 64 << 10
"""Bytes that a spot of 40 genes may cost at most. A patch of 224 pixels has more: an encoder has to work in batches."""
GRACE = 2
"""Linear growth is allowed so many times over: exact solvers are quadratic on few spots, and bounded on many."""
DENSER = (1, 3)
"""So many times as many spots along each axis."""


@check(*MODELS)
def memory_is_bounded(case: Case) -> None:
    """With more spots, peak memory does not grow with their square, and a spot costs at most 64 KiB."""
    if not sys.platform.startswith("linux"):
        raise SkippedError("the peak of a process is read from /proc, which Linux alone has")
    given = pickle.dumps(case.fresh()), pickle.dumps(case.sections), DENSER
    (few, small), (many, large) = in_process("peaks", *given)
    if large > GRACE * small * many / few + SLACK or large - small > PER_SPOT * (many - few) + SLACK:
        raise FaultError(
            f"asking about {few} spots took {small >> 20} MiB, about {many} spots {large >> 20} MiB",
            "work in blocks of spots, and make no matrix of all spots by all spots",
        )
