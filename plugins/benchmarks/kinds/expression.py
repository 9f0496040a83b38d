"""Protocols of kind ``expression``: predict the expression of unseen sections from their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from stzoo import Column, DataError, Row, Section, SplitProtocol, SplitTask
from stzoo.core.arrays import Floats
from stzoo.core.data.subsets import detected_genes, expression_of, mean_profile, measured_subsets
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.evaluation.task import Metrics
from stzoo.core.metrics import summarise


@dataclass
class ExpressionProtocol(SplitProtocol):
    """Predict unseen sections from their images.

    Parameters
    ----------
    gene_sets
        Genes that are scored.
    """

    gene_sets: list[GeneSet] = field(default_factory=list)


class Expression(SplitTask):
    """Mean over genes of the Pearson correlation over test spots; a constant prediction counts 0."""

    schema = ExpressionProtocol
    part = "genes"
    columns = (
        Column("n", "n", 0),
        Column("pcc_mean", "PCC mean", 3),
        Column("pcc_median", "PCC median", 3),
        Column("mse", "MSE", 3),
        Column("constant", "constant", 0),
    )

    def __init__(self, protocol: ExpressionProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        self.sets = gene_sets(self.train, self.test, protocol)
        self.genes = list(dict.fromkeys(gene for genes in self.sets.values() for gene in genes))
        self.truth = np.concatenate([s.expression(self.genes, target=protocol.target) for s in self.test])

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the scores of each gene set (see :class:`Task`)."""
        if row.model or row.weights:
            predicted = np.concatenate(self.models.predict(row, seed, self.genes, self.train, self.blind))
        else:
            mean = mean_profile(measured_subsets(self.train), self.genes, self.protocol.target)
            predicted = np.tile(mean, (len(self.truth), 1))
        return {name: self._metrics(genes, predicted) for name, genes in self.sets.items()}

    def _metrics(self, genes: list[str], predicted: Floats) -> Metrics:
        columns = [self.genes.index(gene) for gene in genes]
        found = summarise(self.truth[:, columns], predicted[:, columns])
        return {
            "n": len(genes),
            "pcc_mean": float(np.nan_to_num(found["pcc_mean"])),
            "pcc_median": float(np.nan_to_num(found["pcc_median"])),
            "mse": found["mse"],
            "constant": found["constant_predictions"],
        }


def gene_sets(train: Sequence[Section], test: Sequence[Section], protocol: ExpressionProtocol) -> dict[str, list[str]]:
    """Choose the genes of each set on the measured spots of the training sections only.

    Genes that a test section does not have are left out afterwards.
    """
    subsets = measured_subsets(train)
    genes = detected_genes(subsets, protocol.min_detected)
    values = expression_of(subsets, genes, protocol.target)
    available = set.intersection(*(set(section.genes) for section in test))
    chosen = {}
    for rule in protocol.gene_sets:
        chosen[rule.name] = [genes[i] for i in rule.columns(values) if genes[i] in available]
        if not chosen[rule.name]:
            raise DataError(f"no gene is left in the set '{rule.name}'", todo="lower min_detected")
    return chosen
