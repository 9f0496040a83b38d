"""Impute a section or a stack into a zarr store: what is imputed lies on disk, and processes may share the work.

Each process fills parts of its own into tables beside the output (:meth:`~stzoo.core.imputer.Imputer.fill_parts`), and
then writes the chunks of its own blocks of spots; the first one makes the store and moves it to its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stzoo.core.data.section import Section, Stack
from stzoo.core.imputer import Imputer
from stzoo.core.io.write import write_shared
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.runtime.shared_output import shared_writing
from stzoo.core.workflows.impute import ImputedSection, sparse_section
from stzoo.core.workflows.impute_stack import impute_stack
from stzoo.core.workflows.predict_blocks import zarr_name


def impute_into(
    imputer: Imputer,
    section: Section,
    out: str | Path,
    *,
    rule: str = "all",
    genes: Sequence[str] | None = None,
    plot: Path | None = None,
    reliability: Path | None = None,
    show: Sequence[str] | None = None,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> list[str]:
    """Impute a section into a zarr store: what :func:`~stzoo.core.workflows.impute.impute_section` gives.

    Parameters
    ----------
    out
        ``NAME.zarr``; whole or absent, whatever happens on the way.
    imputer, section, rule, genes
        As of :func:`~stzoo.core.workflows.impute.impute_section`.
    plot, reliability, show
        Pictures, as of :meth:`~stzoo.core.workflows.impute.ImputedSection.draw`.
    ranks
        The processes that share the work; all call this with the same arguments.

    Returns
    -------
    What was filled and how well (:meth:`~stzoo.core.workflows.impute.ImputedSection.lines`); nothing on other ranks.

    Raises
    ------
    UsageError
        The name is not that of a zarr store.
    LostRankError
        Another rank went away; nothing is written then.
    """
    with shared_writing(zarr_name(out), ranks, overwrite=overwrite) as path:
        sparse = sparse_section(section, rule, genes=genes)
        tables = path.parent / "tables"
        filled = imputer.impute(sparse.section, target=sparse.target, progress=progress, ranks=ranks, folder=tables)
        done = ImputedSection(filled, sparse.truth)
        if ranks.is_main:
            done.draw(plot, reliability, show=show, overwrite=overwrite)
        write_shared(filled, path, ranks)
        return done.lines() if ranks.is_main else []


def impute_stack_into(
    imputer: Imputer,
    stack: Stack,
    folder: str | Path,
    *,
    export_sections: bool = False,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    **options: Any,
) -> list[str]:
    """Align and impute a stack into the folder that :meth:`.ImputedStack.write` writes.

    Parameters
    ----------
    imputer, stack, options
        As of :func:`~stzoo.core.workflows.impute_stack.impute_stack`.
    folder, export_sections
        As of :meth:`~stzoo.core.workflows.impute_stack.ImputedStack.write`.
    ranks
        The processes that share the work; all call this with the same arguments.

    Returns
    -------
    What was filled and how well, for each section; nothing on other ranks.

    Raises
    ------
    LostRankError
        Another rank went away; nothing is written then.
    """
    with shared_writing(Path(folder), ranks, overwrite=overwrite) as path:
        done = impute_stack(imputer, stack, ranks=ranks, tables=path.parent / "tables", **options)
        done.put(path, ranks, export_sections=export_sections)
        return done.lines() if ranks.is_main else []
