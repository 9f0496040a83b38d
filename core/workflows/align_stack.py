"""Align the sections of a stack to the central one."""

from __future__ import annotations

from dataclasses import replace

from stzoo.core.aligner import Aligner
from stzoo.core.data.section import Stack
from stzoo.core.errors import UsageError
from stzoo.core.geometry.transform import Transform
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks


def central_section(stack: Stack) -> int:
    """Return the index of the section that the others are aligned to.

    It has the largest share of measured spots (the reference section of 2.5D sampling; specification ``st-dai``,
    section 1.1); among ties, it is nearest to the middle of the stack.
    """
    share = [float(section.measured.mean()) for section in stack.sections]
    middle = (len(stack) - 1) / 2
    return min(range(len(stack)), key=lambda i: (-share[i], abs(i - middle)))


def align_stack(
    stack: Stack,
    aligner: Aligner,
    *,
    fixed: int | None = None,
    chain: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Stack:
    """Return the stack with a transform of each section into the frame of a fixed one.

    Counts of unmeasured spots are removed before the aligner sees them.

    Parameters
    ----------
    aligner
        Any aligner plugin.
    fixed
        Index of the section whose frame becomes the common frame; by default :func:`central_section`.
    chain
        Align each section to its neighbour towards the fixed one and compose the transforms; by default each is aligned
        to the fixed one directly (specification ``st-dai``, A9: our reading). Distant sections differ more; chains
        accumulate drift.
    progress
        Called with (sections done, number of sections).
    ranks
        Processes that share the sections; all call this.

    Raises
    ------
    UsageError
        The index is out of range.
    """
    fixed = central_section(stack) if fixed is None else fixed
    if not 0 <= fixed < len(stack):
        raise UsageError(f"the stack has no section {fixed}", todo=f"sections are numbered 0 to {len(stack) - 1}")
    seen = [section.hide_unmeasured() for section in stack.sections]
    outwards = sorted((i for i in range(len(stack)) if i != fixed), key=lambda i: abs(i - fixed))
    towards = [number + (1 if number < fixed else -1) if chain else fixed for number in outwards]

    def one(job: int) -> Transform:
        found = aligner.align(seen[outwards[job]], seen[towards[job]])
        if progress:
            progress(job + 1, len(outwards))
        return found

    transforms: list[Transform | None] = [None] * len(stack)
    for number, onto, found in zip(outwards, towards, ranks.map_jobs(len(outwards), one), strict=True):
        onwards = transforms[onto]
        transforms[number] = found if onwards is None else found.then(onwards)
    return replace(stack, transforms=tuple(transforms))
