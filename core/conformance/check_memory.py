"""Memory, measured in a process of its own: it grows with the spots, never with their square."""

from __future__ import annotations

import pickle
import sys

from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import MODELS, CheckSkipped, ConformanceError, check
from stzoo.core.conformance.worker import in_process

SLACK = 24 << 20
"""Bytes that are not counted: what the allocator rounds up."""
PER_SPOT = 40 << 10
"""Bytes that a spot of 40 genes may cost at most. A patch of 224 pixels has more: an encoder has to work in batches."""
EXACT, MATRICES = 4000, 5
"""Solvers that are exact up to so many measured spots may hold so many float64 matrices of these."""
DENSER = (1, 3)
"""So many times as many spots along each axis."""


@check(*MODELS)
def memory_is_bounded(case: CheckContext) -> None:
    """With nine times as many spots, peak memory grows by at most 40 KiB a spot, not with their square."""
    if not sys.platform.startswith("linux"):
        raise CheckSkipped("the peak of a process is read from /proc, which Linux alone has")
    few, many = in_process("peaks", pickle.dumps(case.fresh()), pickle.dumps(case.sections), DENSER)
    allowed = SLACK + PER_SPOT * (many["spots"] - few["spots"])
    if case.subject.role == "imputer":
        allowed += MATRICES * 8 * min(many["measured"], EXACT) ** 2
    if many["bytes"] - few["bytes"] > allowed:
        raise ConformanceError(
            f"asking about {few['spots']} spots took {few['bytes'] >> 20} MiB, about {many['spots']} spots"
            f" {many['bytes'] >> 20} MiB; {allowed >> 20} MiB more are allowed",
            "work in blocks of spots, and make no matrix of all spots by all spots",
        )
