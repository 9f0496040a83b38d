"""Align the sections of a stack: every other section onto the central one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stzoo.core.errors import UsageError
from stzoo.core.interfaces import Aligner, Progress
from stzoo.core.section import Section, Stack


def central_section(stack: Stack) -> int:
    """Return the index of the section that the others are aligned to.

    That is the one with the largest share of measured spots (the reference section of 2.5D sampling; specification
    ``st-dai``, section 1.1); of several, the one nearest to the middle of the stack.
    """
    share = [float(section.measured.mean()) for section in stack.sections]
    middle = (len(stack) - 1) / 2
    return min(range(len(stack)), key=lambda i: (-share[i], abs(i - middle)))


def align_stack(stack: Stack, aligner: Aligner, *, fixed: int | None = None, progress: Progress | None = None) -> Stack:
    """Return the stack with the transform of each section into the frame of a fixed one.

    Every section is aligned directly, not along a chain (specification ``st-dai``, A9: our reading). Counts of spots
    that were not measured are removed before the aligner sees them.

    Parameters
    ----------
    aligner
        Any aligner plugin.
    fixed
        Index of the section whose frame becomes the common one; by default :func:`central_section`.
    progress
        Called with (sections done, sections).

    Raises
    ------
    UsageError
        There is no such section.
    """
    fixed = central_section(stack) if fixed is None else fixed
    if not 0 <= fixed < len(stack):
        raise UsageError(f"the stack has no section {fixed}", todo=f"sections are numbered 0 to {len(stack) - 1}")
    blind = [_blind(section) for section in stack.sections]
    transforms = []
    for number, section in enumerate(blind):
        transforms.append(None if number == fixed else aligner.align(section, blind[fixed]))
        if progress:
            progress(number + 1, len(stack))
    return replace(stack, transforms=tuple(transforms))


def _blind(section: Section) -> Section:
    return section if np.all(section.measured) else section.hide(section.measured)
