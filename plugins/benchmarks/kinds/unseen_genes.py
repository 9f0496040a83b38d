"""Protocols of kind ``unseen-genes``: zero-shot prediction of gene families that were never seen in training."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stzoo import Column, ConfigError, DataError, Row, Section, SplitProtocol, SplitTask
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.data.subsets import detected_genes, measured_subsets
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.task import Metrics
from stzoo.core.metrics import is_constant, per_gene_pcc


@dataclass
class Family:
    """Genes that are held out together: every symbol that ``pattern`` (a regular expression) matches in full."""

    name: str = ""
    pattern: str = ""


@dataclass
class UnseenGenesProtocol(SplitProtocol):
    """Hold whole gene families out, train on what is left, predict the families on unseen sections.

    Parameters
    ----------
    families
        What is held out. A gene of two families belongs to the first.
    threshold
        The share of genes with a correlation above this is counted and tested.
    draws
        Permutations of each test.
    """

    families: list[Family] = field(default_factory=list)
    threshold: float = 0.1
    draws: int = 10000


class UnseenGenes(SplitTask):
    """Scores held-out genes. Their columns are dropped from the training sections before anything reads them.

    Controls: ``density``, the mean map over all seen genes of the row's encoder and head, the same map for every
    held-out gene; ``relative``, the map of the seen gene with the most similar symbol.
    """

    schema = UnseenGenesProtocol
    part = "held out"
    columns = (
        Column("n", "n", 0),
        Column("pcc_mean", "PCC mean", 3),
        Column("pcc_median", "PCC median", 3),
        Column("share", "share above", 3),
        Column("p_spots", "p, spots", 4),
        Column("p_genes", "p, genes", 4),
    )
    controls = ("density", "relative")

    def __init__(self, protocol: UnseenGenesProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        available = set.intersection(*(set(section.genes) for section in self.test))
        detected = detected_genes(measured_subsets(self.train), protocol.min_detected)
        family = {gene: found for gene in detected if gene in available and (found := _family(gene, protocol.families))}
        self.genes = list(family)
        self.families = np.array(list(family.values()))
        if not self.genes:
            raise DataError("no gene of a held-out family is detected", todo="lower min_detected, or change families")
        self.train = [without(section, protocol.families) for section in self.train]
        self.seen = [gene for gene in detected if not _family(gene, protocol.families)]
        self.relatives = [most_similar(gene, self.seen) for gene in self.genes]
        self.truth = np.concatenate([s.expression(self.genes, target=protocol.target) for s in self.test])
        dropped = sum(bool(_family(gene, protocol.families)) for gene in set().union(*(s.genes for s in self.test)))
        self.notes.append(
            f"{dropped} genes held out, {len(self.genes)} of them detected in at least "
            f"{protocol.min_detected:.0%} of the training spots and scored; {len(self.seen)} detected genes are seen"
        )

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the scores of each family and of all genes (see :class:`Task`)."""
        predicted = np.concatenate(self._predict(row, seed)).astype(np.float64)
        varies = ~is_constant(self.truth)
        truth, predicted, families = self.truth[:, varies], predicted[:, varies], self.families[varies]
        pcc = np.nan_to_num(per_gene_pcc(truth, predicted))
        hits = permute_hits(truth, predicted, self.protocol.threshold, self.protocol.draws)
        parts = {"all families": np.ones(len(families), dtype=bool)}
        parts |= {name: families == name for name in dict.fromkeys(families.tolist())}
        return {name: self._metrics(pcc[mask], [h[:, mask] for h in hits]) for name, mask in parts.items()}

    def _predict(self, row: Row, seed: int) -> list[Floats]:
        if row.control == "density":
            maps = self.models.predict(row, seed, self.seen, self.train, self.blind)
            return [np.repeat(values.mean(axis=1, keepdims=True), len(self.genes), axis=1) for values in maps]
        if row.control == "relative":
            wanted = list(dict.fromkeys(self.relatives))
            columns = [wanted.index(gene) for gene in self.relatives]
            return [v[:, columns] for v in self.models.predict(row, seed, wanted, self.train, self.blind)]
        return self.models.predict(row, seed, self.genes, self.train, self.blind)

    def _metrics(self, pcc: Doubles, hits: Sequence[npt.NDArray[np.bool_]]) -> Metrics:
        share = float((pcc > self.protocol.threshold).mean())
        p_spots, p_genes = ((1 + int((h.mean(axis=1) >= share).sum())) / (1 + len(h)) for h in hits)
        return {
            "n": len(pcc),
            "pcc_mean": float(pcc.mean()),
            "pcc_median": float(np.median(pcc)),
            "share": share,
            "p_spots": p_spots,
            "p_genes": p_genes,
        }


def permute_hits(
    truth: Floats, predicted: Doubles, threshold: float, draws: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which genes correlate above a threshold when the pairing of prediction and truth is broken.

    Parameters
    ----------
    truth, predicted
        (n_spots, n_genes); no gene of the truth is constant.

    Returns
    -------
    bool (draws, n_genes) twice. First, with spots permuted, the same way for all genes: the null hypothesis is that
    maps and tissue have nothing to do with each other. Expression is smooth in space, so this is easily rejected, by a
    map of cell density as well. Second, with predictions dealt to the held-out genes at random: the null hypothesis is
    that a prediction fits its own gene no better than another held-out gene, as one map for all would.
    """
    rng = np.random.default_rng(0)
    a, b = _unit(truth), _unit(predicted)
    spots = np.array([np.einsum("sg,sg->g", a[rng.permutation(len(a))], b) for _ in range(draws)])
    table = a.T @ b  # (truth, prediction)
    places = np.arange(len(table))
    genes = np.array([table[places, rng.permutation(places)] for _ in range(draws)])
    return spots > threshold, genes > threshold


def _unit(values: Floats | Doubles) -> Doubles:
    """Return columns centred and of length 1; constant ones are 0."""
    centred = np.asarray(values, dtype=np.float64) - values.mean(axis=0)
    centred[:, is_constant(values)] = 0
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12))


def without(section: Section, families: Sequence[Family]) -> Section:
    """Return a section as if the genes of the families had not been measured; they are not in its depth either."""
    kept = [gene for gene in section.genes if not _family(gene, families)]
    adata = section.adata[:, section.gene_index(kept)].copy()
    adata.obs = adata.obs.drop(columns="total_counts", errors="ignore")
    return replace(section, adata=adata)


def most_similar(gene: str, known: Sequence[str]) -> str:
    """Return the symbol with the longest common beginning, then the highest ratio of matching characters."""

    def closeness(other: str) -> tuple[int, float]:
        common = takewhile(lambda pair: pair[0] == pair[1], zip(gene, other, strict=False))
        return sum(1 for _ in common), difflib.SequenceMatcher(None, gene, other).ratio()

    return max(known, key=closeness)


def _family(gene: str, families: Sequence[Family]) -> str:
    """Return the family of a gene, or an empty string."""
    try:
        return next((family.name for family in families if re.fullmatch(family.pattern, gene)), "")
    except re.error as error:
        raise ConfigError(f"the pattern of a family is not a regular expression: {error}") from error
