"""The contract of imputers: spots that were not measured are filled, in one piece or part by part."""

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
    """What an imputer returns for one section.

    Parameters
    ----------
    values
        float32 (n_spots, n_genes), in the scale of the values given.
    confidence
        float32 (n_spots, n_genes) in [0, 1]; 1 where measured.
    """

    values: Floats
    confidence: Floats


@dataclass(frozen=True)
class FilledPart:
    """Some spots and genes of one section, filled.

    Parameters
    ----------
    section
        Index of the section in the stack.
    spots
        A slice of its spots, or indices, intp (m,).
    filled
        float32 (m, g) values and confidence.
    genes
        A slice of the genes; by default all.
    """

    section: int
    spots: slice | npt.NDArray[np.intp]
    filled: Filled
    genes: slice = field(default_factory=lambda: slice(None))


class Imputer(Model):
    """Fills the spots that were not measured; measured spots come back bit-equal."""

    needs_whole_section: ClassVar[bool] = False
    """One section of the stack has to be measured at every spot (the central one of 2.5D sampling)."""

    @abstractmethod
    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill every section of a stack.

        Parameters
        ----------
        stack
            Sections with positions (and slides); their counts are NaN where hidden.
        values
            For each section log-normalised expression, float32 (n_spots, n_genes), NaN where hidden.

        Returns
        -------
        One :class:`Filled` a section; values of measured spots are overwritten with what was given.
        """

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill part by part, so that no more than a part is held at a time and processes may share the work.

        By default the first process calls :meth:`fill`, and the others have nothing to do but to write. A method that
        can do better is a :class:`PartImputer`: what has to be learned is learned once (``ranks.each``,
        ``ranks.same``), and each process yields parts of its own (``ranks.own``).

        Parameters
        ----------
        stack, values, progress
            As of :meth:`fill`.
        ranks
            The processes that share the work; all call this with the same arguments.

        Yields
        ------
        Parts; those of all processes together hold every hidden spot and every gene once.
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
            Hidden spots are those outside ``obs["measured"]``; their counts are removed before the method sees them.
        target
            Depth that counts are scaled to before log1p; by default the median depth of a section's measured
            spots, and 10,000 for a stack.
        ranks
            The processes that share the work; all call this with the same arguments.
        folder
            Keep what is imputed in files of this folder, on a disk that all ranks see, and not in memory. They have to
            stay as long as the result is used.

        Returns
        -------
        The same spots and genes, with ``layers["imputed"]`` (log-normalised), ``layers["confidence"]``,
        ``obs["measured"]``, and ``X`` NaN where hidden.

        Raises
        ------
        UsageError
            Several ranks, and no folder.
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
        layers = {  # a file's array is one like any other
            "imputed": np.asarray(sheet.filled.values),
            "confidence": np.asarray(sheet.filled.confidence),
        }
        seen = section.adata  # what the method was given stays as it was
        adata = AnnData(seen.X, obs=seen.obs, var=seen.var, obsm=dict(seen.obsm), layers=layers)
        adata.uns["stzoo"] = {"imputed": provenance_of(self)}
        return replace(section, adata=adata)


class PartImputer(Imputer):
    """An imputer that fills part by part; filling in one piece follows from it."""

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill every section of a stack (see :class:`Imputer`)."""
        return merge_parts(self.fill_parts(stack, values, progress=progress), values)

    @abstractmethod
    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill part by part (see :class:`Imputer`)."""


def merge_parts(parts: Iterable[FilledPart], values: Sequence[Floats]) -> list[Filled]:
    """Return the parts of all sections in one piece: what :meth:`Imputer.fill` returns.

    Parameters
    ----------
    values
        As given to ``fill``: what was measured stands where no part does.
    """
    filled = [Filled(given.copy(), np.isfinite(given).astype(np.float32)) for given in values]
    for part in parts:
        whole = filled[part.section]
        whole.values[part.spots, part.genes] = part.filled.values
        whole.confidence[part.spots, part.genes] = part.filled.confidence
    return filled


class _Sheet:
    """What is imputed of one section while it grows, in memory or in files that all ranks see; NaN is still empty."""

    def __init__(self, share: BlockShare, given: Floats) -> None:
        self._share, self._given = share, given
        self.filled = Filled(*(share.table(name, given.shape[1]) for name in ("imputed", "confidence")))
        for rows in share.blocks:
            self.filled.values[rows] = self.filled.confidence[rows] = np.nan

    def put(self, part: FilledPart, model: str) -> None:
        """Take a part.

        Raises
        ------
        DataError
            It has not the shape of its spots and genes.
        """
        expected = self._given[part.spots, part.genes].shape
        for values in (part.filled.values, part.filled.confidence):
            if values.shape != expected:
                raise DataError(f"'{model}' returned {values.shape} for a section of {expected}")
        self.filled.values[part.spots, part.genes] = part.filled.values
        self.filled.confidence[part.spots, part.genes] = part.filled.confidence

    def finish(self, section: Section) -> int:
        """Put what was measured in its place, in this rank's blocks; return how many values are still empty."""
        empty, measured = 0, section.measured
        for rows in self._share.blocks:
            seen = np.arange(rows.start, rows.stop)[measured[rows]]
            self.filled.values[seen], self.filled.confidence[seen] = self._given[seen], 1.0
            for values in (self.filled.values[rows], self.filled.confidence[rows]):
                empty += int((~np.isfinite(values)).sum())
        return empty


def _hidden(stack: Stack) -> Stack:
    """Return the genes that all sections share, hidden where they were not measured."""
    genes = stack.genes
    if not genes:
        raise DataError("the sections share no gene", todo="check that their gene names are of one kind")
    hidden = tuple(section.take_genes(genes).hide(section.measured) for section in stack.sections)
    for section in hidden:
        if not section.measured.any():
            raise DataError(f"section '{section.name}' has no measured spot", where=section.source or None)
    return replace(stack, sections=hidden)
