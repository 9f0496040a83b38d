"""Protocols of kind ``same-slide``: fit on random spots of a slide, predict the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from stzoo import Column, DataError, Protocol, Row, Section, Task, model
from stzoo.core.arrays import Floats, Mask
from stzoo.core.data.subsets import mean_profile, measured_subsets
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.task import Metrics
from stzoo.core.metrics import concatenated_pcc, per_gene_pcc


@dataclass
class SameSlideProtocol(Protocol):
    """Split the spots of each slide at random; one model a slide.

    Parameters
    ----------
    sections
        Those that are not in the data folder are left out, and named.
    genes
        Genes that are scored; those that a section does not have are left out there, and named.
    share
        Share of the spots that is fitted on.
    """

    sections: list[str] = field(default_factory=list)
    genes: list[str] = field(default_factory=list)
    share: float = 0.8


class SameSlide(Task):
    """Errors and correlations of each gene over the test spots of a slide, averaged over slides.

    Control ``neighbours``: the mean of the nearest fitted spots (the imputer ``knn``), which reads no image: what a
    random split of one slide gives away.
    """

    schema = SameSlideProtocol
    part = "genes"
    columns = (
        Column("mae", "MAE", 3),
        Column("pcc", "PCC a gene", 3),
        Column("pcc_concatenated", "PCC concatenated", 3),
    )
    controls = ("neighbours",)

    def __init__(self, protocol: SameSlideProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        self.sections = self.read_available(protocol.sections)
        self.genes = [[gene for gene in protocol.genes if gene in set(s.genes)] for s in self.sections]
        for section, genes in zip(self.sections, self.genes, strict=True):
            missing = [gene for gene in protocol.genes if gene not in genes]
            if not genes:
                raise DataError(f"section '{section.name}' has none of the genes", where=section.source or None)
            if missing:
                self.notes.append(f"section '{section.name}' has no {', '.join(missing)}")

    def conditions(self) -> str:
        """Return sections, split and normalisation."""
        p = self.protocol
        names = ", ".join(section.name for section in self.sections)
        return f"{p.share:.0%} of the spots of each of {names}, at random; log1p of counts per {p.target:g}"

    def is_random(self, row: Row) -> bool:
        """Say yes: every seed is another split."""
        return True

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the means over slides for all genes, each gene, and each slide (see :class:`Task`)."""
        slides, per_gene = {}, dict[str, list[Metrics]]()
        for section, genes in zip(self.sections, self.genes, strict=True):
            fitted = _choose_spots(section, self.protocol.share, seed)
            test = section.measured & ~fitted
            truth = section.expression(genes, target=self.protocol.target)[test]
            predicted = self._predict(row, seed, section.hide(fitted), genes)[test]
            mae, pcc = np.abs(truth - predicted).mean(axis=0), np.nan_to_num(per_gene_pcc(truth, predicted))
            for gene, error, correlation in zip(genes, mae, pcc, strict=True):
                per_gene.setdefault(gene, []).append({"mae": float(error), "pcc": float(correlation)})
            together = float(np.nan_to_num(concatenated_pcc(truth, predicted)))
            slides[section.name] = {"mae": float(mae.mean()), "pcc": float(pcc.mean()), "pcc_concatenated": together}
        overall = _average(list(slides.values()))
        return {"all": overall, **{gene: _average(found) for gene, found in per_gene.items()}, **slides}

    def _predict(self, row: Row, seed: int, section: Section, genes: list[str]) -> Floats:
        if row.control == "neighbours":
            filled = model("knn").impute(section.take_genes(genes), target=self.protocol.target)
            return np.asarray(filled.adata.layers["imputed"], dtype=np.float32)
        if not (row.model or row.weights):
            mean = mean_profile(measured_subsets([section]), genes, self.protocol.target)
            return np.tile(mean, (section.n_spots, 1))
        blind = section.without_counts()
        return self.models.predict(row, seed, genes, [section], [blind], again=True)[0]


def _choose_spots(section: Section, share: float, seed: int) -> Mask:
    """Return a random share of the measured spots, bool (n,)."""
    measured = np.flatnonzero(section.measured)
    order = np.random.default_rng(seed).permutation(measured)
    chosen = np.zeros(section.n_spots, dtype=bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen


def _average(found: list[Metrics]) -> Metrics:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
