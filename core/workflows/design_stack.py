"""2.5D sampling design: one section of a stack is measured completely, the others at a share of their spots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from stzoo.core.io.read_stack import OpenedStack
from stzoo.core.io.stack_file import require_name, write_stack_file
from stzoo.core.runtime.outputs import writing
from stzoo.core.workflows.align_stack import central_section
from stzoo.core.workflows.design import Design, design, write_barcodes

STACK = "stack.yaml"
"""Name of the stack file in a design folder."""


@dataclass(frozen=True)
class StackDesign:
    """A sampling design of a stack: the spots to measure.

    Parameters
    ----------
    opened
        The stack.
    central
        Index of the section that is measured completely.
    share
        Requested share of spots in the others.
    chosen
        For each section the spots to measure; None for the central one.
    """

    opened: OpenedStack
    central: int
    share: float
    chosen: tuple[Design | None, ...]

    def count_spots(self) -> list[tuple[int, int]]:
        """Return (spots to measure, all spots) for each section."""
        pairs = zip(self.opened.sections, self.chosen, strict=True)
        return [(s.n_spots if found is None else int(found.chosen.sum()), s.n_spots) for s, found in pairs]

    def lines(self) -> list[str]:
        """Return lines of text: what is measured of each section, and the measured fraction of the stack."""
        counts, names = self.count_spots(), [section.name for section in self.opened.sections]
        lines = [
            f"{name}: {some} of {every} spots ({some / every:.1%}): {'all, central' if found is None else found.how}"
            for name, (some, every), found in zip(names, counts, self.chosen, strict=True)
        ]
        some, every = (sum(column) for column in zip(*counts, strict=True))
        k = len(counts)
        expected = (1 + (k - 1) * self.share) / k
        lines.append(
            f"measured fraction: {some / every:.3f} ({some} of {every} spots);"
            f" (1 + (K - 1) r) / K = {expected:.3f} for K = {k} equal sections, r = {self.share:g}"
        )
        return lines

    def write(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``NAME.txt`` with the barcodes of each sparse section, and ``stack.yaml`` that refers to them.

        Returns
        -------
        Path of the stack file. The folder is written atomically.
        """
        folder = Path(folder)
        with writing(folder, overwrite=overwrite) as scratch:
            scratch.mkdir()
            file = self.opened.file.rebase(folder / STACK)
            entries = list(file.sections)
            for i, (section, found) in enumerate(zip(self.opened.sections, self.chosen, strict=True)):
                if found is not None:
                    write_barcodes(section, found.chosen, scratch / f"{section.name}.txt")
                rule = "all" if found is None else f"file:{section.name}.txt"
                entries[i] = replace(entries[i], measured=rule)
            write_stack_file(replace(file, sections=tuple(entries)), scratch / STACK)
        return folder / STACK


def design_stack(opened: OpenedStack, share: float = 0.25, *, central: str | None = None, seed: int = 0) -> StackDesign:
    """Choose the spots to measure; counts are not read.

    Parameters
    ----------
    share
        Share of the spots of every section except the central one; see :func:`stzoo.core.workflows.design.design`.
    central
        Name of the section that is measured completely; by default the one with the largest measured share in the stack
        file (:func:`~stzoo.core.workflows.align_stack.central_section`), the middle one among ties.

    Raises
    ------
    UsageError
        The share is not in (0, 1], or the section does not exist.
    """
    names = [section.name for section in opened.sections]
    if central is not None:
        require_name(central, names, opened.file.lines.path)
    middle = central_section(opened.stack) if central is None else names.index(central)
    chosen = [None if i == middle else design(s, share, seed=seed) for i, s in enumerate(opened.sections)]
    return StackDesign(opened, middle, share, tuple(chosen))
