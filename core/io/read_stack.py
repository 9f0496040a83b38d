"""From a stack file to a Stack: sections read, hidden spots hidden, everything that is wrong told by its line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from stzoo.core.arrays import Mask
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.io.read import read
from stzoo.core.io.stack_file import StackFile, load_stack_file


@dataclass(frozen=True)
class OpenedStack:
    """What a stack file names, read.

    Parameters
    ----------
    file
        The stack file.
    sections
        The sections as their files hold them, under the names of the stack file: what hidden spots are compared with.
    stack
        The same as a method may see them: ``obs["measured"]`` set, counts of all other spots gone; z from the spacing.
    """

    file: StackFile
    sections: tuple[Section, ...]
    stack: Stack

    def require_whole(self) -> None:
        """Refuse a stack of which no section is measured at every spot, for methods that need one.

        Raises
        ------
        DataError
            Naming the file and what to change.
        """
        if not any(section.measured.all() for section in self.stack.sections):
            raise DataError(
                "no section of the stack is measured at every spot, and this method needs one (the central section)",
                where=self.file.lines.where("sections"),
                todo="write 'measured: all' for the section that is, or use another imputer (--model kriging)",
            )


def read_stack(path: str | Path) -> Stack:
    """Read the stack that a YAML file describes; see docs/volume.md for its keys.

    Parameters
    ----------
    path
        The stack file.

    Returns
    -------
    Sections in order of depth with ``obs["measured"]``; counts of hidden spots are gone. ``z_um`` from the spacing; no
    transforms yet (:func:`stzoo.core.workflows.align_stack.align_stack`).

    Raises
    ------
    StzooError
        Naming the line of the file, what was expected, and what to do.

    Examples
    --------
    >>> stzoo.read_stack("stack.yaml")  # doctest: +SKIP
    """
    return open_stack(load_stack_file(path)).stack


def open_stack(file: StackFile) -> OpenedStack:
    """Read the sections of a stack file (see :func:`read_stack`)."""
    whole: list[Section] = []
    hidden: list[Section] = []
    shared: set[str] | None = None
    for index in range(len(file.sections)):
        section = _read_one(file, index)
        mask = _mask(file, index, section)
        shared = set(section.genes) if shared is None else shared & set(section.genes)
        if not shared:
            raise DataError(
                f"section '{section.name}' shares no gene with those above it: '{section.genes[0]}' ... here,"
                f" '{whole[0].genes[0]}' ... there",
                where=file.lines.where("sections", index, "source"),
                todo="give sections whose genes go by one kind of name",
            )
        whole.append(section)
        hidden.append(_hidden(section, mask))
    return OpenedStack(file, tuple(whole), Stack(tuple(hidden), file.z_um))


def _read_one(file: StackFile, index: int) -> Section:
    with file.lines.blame("sections", index, "source"):
        section = replace(read(file.source(index)), name=file.sections[index].name)
        try:
            _ = section.um
        except UnitsError as error:
            todo = f"write it with its scale first: stzoo data convert {file.source(index)} NAME.h5ad --mpp VALUE"
            raise UnitsError(error.what, where=error.where, todo=todo) from error
        return section


def _mask(file: StackFile, index: int, section: Section) -> Mask:
    with file.lines.blame("sections", index, "measured"):
        mask = measured_mask(section, file.rule(index)) & section.measured
        if not mask.any():
            raise DataError(
                f"no spot of '{section.name}' is both measured in the data and called so by the rule",
                where=section.source,
                todo="use another rule, e.g. measured: all",
            )
        return mask


def _hidden(section: Section, mask: Mask) -> Section:
    if not mask.all():
        return section.hide(mask)
    adata = section.adata.copy()  # nothing to hide: counts stay as they are stored
    adata.obs["measured"] = mask
    return replace(section, adata=adata)
