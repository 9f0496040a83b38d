"""What stands beside every tuned model: the weights before, gene mean, and heads on an encoder that never learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.data.subsets import SpotSubset, expression_of, mean_profile
from stzoo.core.encoder import Encoder, Head, head_class
from stzoo.core.finetuning.data import embed_subsets, groups
from stzoo.core.heads.ridge import RidgeHead
from stzoo.core.metrics.correlation import is_constant, per_gene_pcc

OWN = "before: weights as they come"
REFITTED = "before: head fitted on own spots"
HEAD = "after: head tuned"
TUNED = "after: network tuned"
"""Names of lines."""


@dataclass(frozen=True)
class Line:
    """One line of the result.

    Parameters
    ----------
    name
        What predicted.
    pcc
        float64 (g,), correlation of each scored gene over the test spots, 0 where it predicts a constant; NaN where the
        truth is constant.
    values
        float32 (n, g), what it predicted.
    note
        What must be known of it.
    """

    name: str
    pcc: Doubles
    values: Floats
    note: str = ""

    @property
    def mean(self) -> float:
        """Mean over the genes that vary."""
        return float(np.nanmean(self.pcc)) if np.isfinite(self.pcc).any() else float("nan")

    @property
    def median(self) -> float:
        """Median over the genes that vary."""
        return float(np.nanmedian(self.pcc)) if np.isfinite(self.pcc).any() else float("nan")


def score_line(name: str, truth: Floats, predicted: Floats, note: str = "") -> Line:
    """Return the line of a prediction, (n, g)."""
    pcc = np.nan_to_num(per_gene_pcc(truth, predicted))
    return Line(name, np.where(is_constant(truth), np.nan, pcc), predicted, note)


def gene_mean(learn: Sequence[SpotSubset], test: Sequence[SpotSubset], genes: Sequence[str]) -> Floats:
    """Return each gene's mean over the training spots for every test spot."""
    return np.tile(mean_profile(learn, genes), (sum(piece.n for piece in test), 1))


def own_head(encoder: Encoder) -> RidgeHead | None:
    """Return the ridge head saved with the weights, or None."""
    head = encoder.fitted_heads.get("ridge")
    return head if isinstance(head, RidgeHead) else None


def as_they_come(encoder: Encoder, embedding: Floats, genes: Sequence[str], otherwise: Floats) -> Floats | None:
    """Return what the weights' own head predicts; for genes that it does not know the columns of ``otherwise``."""
    head = own_head(encoder)
    known = [gene for gene in genes if head is not None and gene in set(head.genes)]
    if head is None or not known:
        return None
    out = otherwise.copy()
    out[:, [list(genes).index(gene) for gene in known]] = head.predict(embedding, known).values
    return out


def head_on(encoder: Encoder, learn: Sequence[SpotSubset], genes: Sequence[str], kind: str) -> Head:
    """Fit a head on the spots of pieces."""
    return head_class(kind).fit(embed_subsets(encoder, learn), expression_of(learn, genes), groups(learn), tuple(genes))


def fit_carried_head(
    encoder: Encoder, learn: Sequence[SpotSubset], genes: Sequence[str], start: RidgeHead | None
) -> RidgeHead:
    """Fit a ridge head on the spots of pieces, drawn towards the one that weights bring along."""
    return RidgeHead.fit(
        embed_subsets(encoder, learn), expression_of(learn, genes), groups(learn), tuple(genes), start=start
    )


def control_lines(
    control: Encoder | None, learn: Sequence[SpotSubset], test: Sequence[SpotSubset], genes: Sequence[str]
) -> list[Line]:
    """Return gene mean, and, where the control's plugin is there, neighbours and ridge on its embedding."""
    truth = expression_of(test, genes)
    lines = [score_line("gene mean", truth, gene_mean(learn, test, genes))]
    if control is not None:
        seen = embed_subsets(control, test)
        for kind, name in (("retrieval", "kNN"), ("ridge", "ridge")):
            head = head_on(control, learn, genes, kind)
            lines.append(score_line(f"{name} on {control.name}", truth, head.predict(seen).values))
    return lines
