"""The interface of imputers: they fill spots that were not measured, all at once or part by part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, overload

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Floats
from stzoo.core.data.section import PER_10K, Section, Stack
from stzoo.core.errors import DataError, UsageError
from stzoo.core.model import Model, provenance_of
from stzoo.core.runtime.blocks import BlockShare
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Filled:
    """Imputed values of one section.

    Parameters
    ----------
    values
        float32 (n_spots, n_genes), on the scale of the input values.
    confidence
        float32 (n_spots, n_genes) in [0, 1]; 1 where measured.
    """

    values: Floats
    confidence: Floats


@dataclass(frozen=True)
class FilledPart:
    """Imputed values of some spots and genes of one section.

    Parameters
    ----------
    section
        Index of the section in the stack.
    spots
        Spots: a slice, or indices, intp (m,).
    filled
        float32 (m, g) values and confidence.
    genes
        Slice of the genes; by default all.
    """

    section: int
    spots: slice | npt.NDArray[np.intp]
    filled: Filled
    genes: slice = field(default_factory=lambda: slice(None))


class Imputer(Model):
    """Fills spots that were not measured; measured spots are returned bit-equal."""

    needs_whole_section: ClassVar[bool] = False
    """Whether one section of the stack must be measured at every spot (the central one of 2.5D sampling)."""

    @abstractmethod
    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill every section of a stack.

        Parameters
        ----------
        stack
            Sections with positions (and slides); counts are NaN where hidden.
        values
            Log-normalised expression of each section, float32 (n_spots, n_genes), NaN where hidden.

        Returns
        -------
        One :class:`Filled` per section; the caller restores the values of measured spots.
        """

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill part by part, so that memory holds one part at a time and processes can share the work.

        By default the first process calls :meth:`fill` and the others only help to write. A method that can do better
        is a :class:`PartImputer`: what must be learned is learned once (``ranks.map_jobs``, ``ranks.broadcast``), and
        each process yields its own parts (``ranks.my_jobs``).

        Parameters
        ----------
        stack, values, progress
            As in :meth:`fill`.
        ranks
            Processes that share the work; all call this with the same arguments.

        Yields
        ------
        Parts; those of all processes together cover every hidden spot and gene exactly once.
        """
        filled = self.fill(stack, values, progress=progress) if ranks.is_main else []
        for number, one in enumerate(filled):
            yield FilledPart(number, slice(None), one)

    @overload
    def impute(
        self, data: Section, *, target: float | None = ..., progress: Progress | None = ..., ranks: Ranks = ...,
        folder: Path | None = ...,
    ) -> Section: ...  # fmt: skip
    @overload
    def impute(
        self, data: Stack, *, target: float | None = ..., progress: Progress | None = ..., ranks: Ranks = ...,
        folder: Path | None = ...,
    ) -> Stack: ...  # fmt: skip

    def impute(
        self,
        data: Section | Stack,
        *,
        target: float | None = None,
        progress: Progress | None = None,
        ranks: Ranks = ALONE,
        folder: Path | None = None,
    ) -> Section | Stack:
        """Fill a section, or every section of a stack.

        Parameters
        ----------
        data
            Spots outside ``obs["measured"]`` are hidden: their counts are removed before the method sees them.
        target
            Depth that counts are scaled to before log1p; by default the median depth of the measured spots for a
            section, and 10,000 for a stack.
        ranks
            Processes that share the work; all call this with the same arguments.
        folder
            Write imputed values to files in this folder instead of memory, on a disk shared by all ranks. Keep the
            files as long as the result is used.

        Returns
        -------
        The same spots and genes, with ``layers["imputed"]`` (log-normalised), ``layers["confidence"]``,
        ``obs["measured"]``, and ``X`` NaN where hidden.

        Raises
        ------
        UsageError
            Several ranks but no folder.
        """
        if ranks.world > 1 and folder is None:
            raise UsageError("several ranks need a place to meet", todo="give a folder on a disk that all of them see")
        stack = data if isinstance(data, Stack) else Stack((data,))
        given = _hidden(stack)
        if isinstance(data, Stack):
            target = target or PER_10K
        values = [section.expression(target=target) for section in given.sections]
        shares = [
            BlockShare(section.n_spots, ranks, None if folder is None else folder / str(number))
            for number, section in enumerate(given.sections)
        ]
        sheets = [_Sheet(share, one) for share, one in zip(shares, values, strict=True)]
        ranks.barrier()
        for part in self.fill_parts(given, [one.copy() for one in values], ranks, progress=progress):
            sheets[part.section].put(part, self.name)
        ranks.barrier()
        done = tuple(self._attach(section, sheet) for section, sheet in zip(given.sections, sheets, strict=True))
        ranks.barrier()
        return replace(stack, sections=done) if isinstance(data, Stack) else done[0]

    def _attach(self, section: Section, sheet: _Sheet) -> Section:
        from anndata import AnnData

        empty = sheet.finish(section)
        if empty:
            raise DataError(f"'{self.name}' left {empty} values of {section.name} empty")
        layers = {  # a memory-mapped file becomes a plain array
            "imputed": np.asarray(sheet.filled.values),
            "confidence": np.asarray(sheet.filled.confidence),
        }
        seen = section.adata  # the input section is not modified
        adata = AnnData(seen.X, obs=seen.obs, var=seen.var, obsm=dict(seen.obsm), layers=layers)
        adata.uns["stzoo"] = {"imputed": provenance_of(self)}
        return replace(section, adata=adata)


class PartImputer(Imputer):
    """An imputer that works part by part; :meth:`fill` follows from :meth:`fill_parts`."""

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill every section of a stack (see :class:`Imputer`)."""
        return merge_parts(self.fill_parts(stack, values, progress=progress), values)

    @abstractmethod
    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill part by part (see :class:`Imputer`)."""


def merge_parts(parts: Iterable[FilledPart], values: Sequence[Floats]) -> list[Filled]:
    """Merge the parts of all sections into what :meth:`Imputer.fill` returns.

    Parameters
    ----------
    values
        The values given to ``fill``, kept wherever no part was filled.
    """
    filled = [Filled(given.copy(), np.isfinite(given).astype(np.float32)) for given in values]
    for part in parts:
        whole = filled[part.section]
        whole.values[part.spots, part.genes] = part.filled.values
        whole.confidence[part.spots, part.genes] = part.filled.confidence
    return filled


class _Sheet:
    """Imputed values of one section, in memory or in files shared by all ranks; NaN until filled."""

    def __init__(self, share: BlockShare, given: Floats) -> None:
        self._share, self._given = share, given
        self.filled = Filled(*(share.table(name, given.shape[1]) for name in ("imputed", "confidence")))
        for rows in share.blocks:
            self.filled.values[rows] = self.filled.confidence[rows] = np.nan

    def put(self, part: FilledPart, model: str) -> None:
        """Write one part.

        Raises
        ------
        DataError
            Its shape does not match its spots and genes.
        """
        expected = self._given[part.spots, part.genes].shape
        for values in (part.filled.values, part.filled.confidence):
            if values.shape != expected:
                raise DataError(f"'{model}' returned {values.shape} for a section of {expected}")
        self.filled.values[part.spots, part.genes] = part.filled.values
        self.filled.confidence[part.spots, part.genes] = part.filled.confidence

    def finish(self, section: Section) -> int:
        """Restore measured values in this rank's blocks; return the number of values still empty."""
        empty, measured = 0, section.measured
        for rows in self._share.blocks:
            seen = np.arange(rows.start, rows.stop)[measured[rows]]
            self.filled.values[seen], self.filled.confidence[seen] = self._given[seen], 1.0
            for values in (self.filled.values[rows], self.filled.confidence[rows]):
                empty += int((~np.isfinite(values)).sum())
        return empty


def _hidden(stack: Stack) -> Stack:
    """Restrict all sections to their shared genes, and hide spots that were not measured."""
    genes = stack.genes
    if not genes:
        raise DataError("the sections share no gene", todo="check that their gene names are of one kind")
    hidden = tuple(section.take_genes(genes).hide(section.measured) for section in stack.sections)
    for section in hidden:
        if not section.measured.any():
            raise DataError(f"section '{section.name}' has no measured spot", where=section.source or None)
    return replace(stack, sections=hidden)
