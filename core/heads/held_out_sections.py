"""Sections held out of a training, by which its weights are judged while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.genes import top_genes
from stzoo.core.data.section import PER_10K, Section
from stzoo.core.data.splits import FEWEST, patient_of
from stzoo.core.errors import DataError, GeneError, UsageError
from stzoo.core.heads.base import SCORED
from stzoo.core.heads.ridge import RidgeHead
from stzoo.core.metrics.correlation import is_constant
from stzoo.core.metrics.summary import mean_pcc

MOST = 1000
"""Spots that a head learns from, over all sections, and spots of each held-out section that are looked at (ours)."""


class HeldOut:
    """Sections that a training never learns from, and the spots that a head learns from to be tested on them.

    All spots are measured ones. Of a section with too many, spots are subsampled at equal steps in the order of the
    file: the same ones are scored every time, and a validation costs the same whatever the size of the data.

    Parameters
    ----------
    training, validation
        Sections that are learned from, and that are held out.
    genes
        Genes that the training knows. Those of highest mean over the training spots are scored (250, as in
        fine-tuning), on each section those that it has.

    Raises
    ------
    UsageError
        A held-out section is trained on as well, or is given twice.
    DataError
        One has no slide, too few measured spots, or no gene that varies.
    GeneError
        One has none of the genes.
    """

    def __init__(self, training: Sequence[Section], validation: Sequence[Section], genes: Sequence[str]) -> None:
        _refuse_overlap(training, validation)
        self.names = tuple(section.name for section in validation)
        self.same_patient = bool(_patients(training) & _patients(validation))
        learn = [_some(section, MOST // len(training)) for section in training]
        self._group = np.repeat(np.arange(len(learn)), [len(section) for section in learn])
        self.genes, self.learned = _choose_genes(learn, genes)
        held = [_some(section, MOST) for section in validation]
        self.known = [_keep_known(section, self.genes) for section in held]
        self._truth = [section.expression(own, target=PER_10K) for section, own in zip(held, self.known, strict=True)]
        for section, truth in zip(held, self._truth, strict=True):
            if is_constant(truth).all():
                raise DataError(f"no gene of '{section.name}' varies, so it judges nothing", where=_where(section))
        self.learn, self.held = [_bare(section) for section in learn], [_bare(section) for section in held]

    def ridge_pcc(self, learn: Sequence[Floats], held: Sequence[Floats]) -> float:
        """Return what a ridge head is worth: fitted on the training spots, tested on the held-out ones.

        Parameters
        ----------
        learn, held
            Embeddings, float32 (n, d), of each section of :attr:`learn` and of :attr:`held`.

        Returns
        -------
        The mean of :meth:`pcc`.
        """
        head = RidgeHead.fit(np.concatenate(learn), self.learned, self._group, self.genes)
        return self.pcc([head.predict(seen, own).values for seen, own in zip(held, self.known, strict=True)])

    def pcc(self, predicted: Sequence[Floats]) -> float:
        """Return the correlation over the spots of a section, averaged over genes, then over sections.

        Parameters
        ----------
        predicted
            float32 (n, g) for each held-out section, of its genes in :attr:`known`.
        """
        return float(np.mean([mean_pcc(*pair) for pair in zip(self._truth, predicted, strict=True)]))

    def describe(self) -> dict[str, Any]:
        """Return what the weights say of it, as JSON values."""
        return {"sections": list(self.names), "same_patient": self.same_patient}


def _refuse_overlap(training: Sequence[Section], validation: Sequence[Section]) -> None:
    for number, section in enumerate(validation):
        section.require_slide()
        n = int(section.counted.sum())
        if n < FEWEST:
            todo = f"validate on a section with at least {FEWEST}"
            raise DataError(f"'{section.name}' has {n} measured spots with counts", where=_where(section), todo=todo)
        if any(_is_same(section, other) for other in validation[:number]):
            raise UsageError(f"section '{section.name}' is given twice for validation", todo="give it once")
        trained = next((other for other in training if _is_same(section, other)), None)
        if trained is not None:
            raise UsageError(
                f"section '{section.name}' is to validate, and is trained on as well",
                where=_where(trained),
                todo="validate on a section that is not trained on, or take it out of the training",
            )


def _is_same(one: Section, other: Section) -> bool:
    """Say whether two sections come from one place, or have the same spots and counts wherever they come from."""
    if one.source and other.source and _place(one) == _place(other):
        return True
    same_spots = len(one) == len(other) and np.array_equal(one.pixels, other.pixels)
    return same_spots and np.array_equal(one.depth, other.depth, equal_nan=True)


def _place(section: Section) -> tuple[Path, str]:
    path, mark, name = section.source.rpartition("::")
    return (Path(path).resolve(), name) if mark else (Path(section.source).resolve(), section.name)


def _where(section: Section) -> str | None:
    return section.source or None


def _some(section: Section, most: int) -> Section:
    """Return a section of at most so many of its measured spots."""
    spots = np.flatnonzero(section.counted)
    if len(spots) > most:
        spots = spots[np.linspace(0, len(spots) - 1, max(1, most)).astype(np.intp)]
    return section.take(spots)


def _bare(section: Section) -> Section:
    """Return a section without counts, and with one gene: what an encoder needs, and no more memory."""
    return section.take_genes(section.genes[:1]).without_counts()


def _choose_genes(learn: Sequence[Section], genes: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """Return the genes of highest mean, in the order of ``genes``, and their expression (n, g)."""
    values = np.concatenate([section.expression(genes, target=PER_10K) for section in learn])
    chosen = np.sort(top_genes(values, SCORED))
    return tuple(genes[i] for i in chosen), values[:, chosen]


def _keep_known(section: Section, genes: Sequence[str]) -> list[str]:
    has = set(section.genes)
    known = [gene for gene in genes if gene in has]
    if not known:
        raise GeneError(
            f"'{section.name}' has none of the {len(genes)} genes that are scored",
            where=_where(section),
            todo="check that genes are named by symbols of the same species as in the training sections",
        )
    return known


def _patients(sections: Sequence[Section]) -> set[str]:
    """Return the patients that sections name; a section of several names none."""
    found = set()
    for section in sections:
        try:
            found.add(patient_of(section))
        except DataError:
            continue
    return found - {""}
