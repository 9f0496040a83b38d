"""Run a protocol: the same sections, genes and figures for every model and baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.interfaces import Encoder
from stzoo.core.metrics import summarise
from stzoo.core.protocol import GeneSet, Protocol, Rank, Row
from stzoo.core.reading import read
from stzoo.core.recipes import trained
from stzoo.core.registry import model
from stzoo.core.resources import data_source
from stzoo.core.section import Floats, Section

Loader = Callable[[str], Any]
"""Gives a model for the name of its weights (:func:`stzoo.load`)."""


@dataclass(frozen=True)
class Score:
    """Figures of one row on one gene set, over seeds.

    Parameters
    ----------
    row, genes, n_genes, seeds
        What was scored, how often.
    pcc_mean, pcc_sd, pcc_median
        Mean over genes of the Pearson correlation over test spots (a constant prediction counts 0), its standard
        deviation over seeds, and the median over genes.
    constant, mse
        Genes for which the prediction is constant; mean squared error of log-normalised expression.
    """

    row: str
    genes: str
    n_genes: int
    seeds: int
    pcc_mean: float
    pcc_sd: float
    pcc_median: float
    constant: int
    mse: float


def evaluate(
    protocol: Protocol,
    data: Path,
    *,
    load: Loader,
    work: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Score]:
    """Run a protocol.

    Parameters
    ----------
    protocol
        From :func:`~stzoo.core.protocol.load_protocol`.
    data
        Folder that holds the sections.
    load
        How weights are found.
    work
        Folder in which trained models are kept, so that a stopped evaluation goes on; by default they are dropped.
    tell
        Called with a line before each row.

    Returns
    -------
    A :class:`Score` for each row and gene set. Test counts are read for scoring only.
    """
    train = [read(data_source(source, data)) for source in protocol.train]
    test = [read(data_source(source, data)) for source in protocol.test]
    sets = gene_sets(train, test, protocol)
    wanted = list(dict.fromkeys(gene for genes in sets.values() for gene in genes))
    truth = np.concatenate([section.expression(wanted, target=protocol.target) for section in test])
    blind = [section.hide(np.zeros(section.n_spots, dtype=bool)) for section in test]
    scores = []
    with tempfile.TemporaryDirectory() as scratch:
        runner = _Runner(train, blind, wanted, protocol, load, work or Path(scratch))
        for row in protocol.rows:
            seeds = protocol.seeds if row.recipe else protocol.seeds[:1]
            tell(f"{row.name} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})")
            predicted = [runner.predict(row, seed) for seed in seeds]
            scores += [_score(row.name, name, genes, wanted, truth, predicted) for name, genes in sets.items()]
    return scores


def gene_sets(train: Sequence[Section], test: Sequence[Section], protocol: Protocol) -> dict[str, list[str]]:
    """Choose the genes of each set on the measured spots of the training sections only.

    Genes that a test section does not have are left out afterwards.
    """
    shared = set.intersection(*(set(section.genes) for section in train))
    genes = [gene for gene in train[0].genes if gene in shared]
    values = np.concatenate([s.expression(genes, target=protocol.target)[s.measured] for s in train])
    detected = np.flatnonzero((values > 0).mean(axis=0) >= protocol.min_detected)
    available = set.intersection(*(set(section.genes) for section in test))
    chosen = {}
    for rule in protocol.gene_sets:
        chosen[rule.name] = [genes[i] for i in _ranked(values, detected, rule) if genes[i] in available]
        if not chosen[rule.name]:
            raise DataError(f"no gene is left in the set '{rule.name}'", todo="lower min_detected")
    return chosen


def _ranked(values: Floats, detected: Any, rule: GeneSet) -> Any:
    by = values.mean(axis=0) if rule.rank is Rank.mean else values.var(axis=0)
    return detected[np.argsort(-by[detected], kind="stable")][: rule.count]


class _Runner:
    """Fits each row on the training sections and predicts the test sections, whose counts are hidden."""

    def __init__(
        self, train: list[Section], test: list[Section], genes: list[str], protocol: Protocol, load: Loader, work: Path
    ) -> None:
        self.train, self.test, self.genes, self.protocol = train, test, genes, protocol
        self.load, self.work = load, work
        self._encoders: dict[tuple[str, ...], Encoder] = {}

    def predict(self, row: Row, seed: int) -> Floats:
        if not row.model and not row.weights:
            values = [s.expression(self.genes, target=self.protocol.target)[s.measured] for s in self.train]
            mean = np.concatenate(values).mean(axis=0)
            return np.tile(mean, (sum(section.n_spots for section in self.test), 1)).astype(np.float32)
        encoder = self._encoder(row, seed)
        head = encoder.check_head(row.head or None)
        if head in ("ridge", "retrieval") and not set(self.genes) <= set(encoder.genes(head)):
            encoder.fit(self.train, self.genes, head=head)
        return np.concatenate([encoder.predict(section, self.genes, head=head).values for section in self.test])

    def _encoder(self, row: Row, seed: int) -> Encoder:
        key = (row.model, row.recipe, row.weights, str(seed))
        if key not in self._encoders:
            if row.weights:
                self._encoders[key] = self.load(row.weights)
            elif row.recipe:
                folder = self.work / f"{row.model}-{row.recipe}-seed{seed}"
                self._encoders[key] = trained(row.model, row.recipe, self.train, seed=seed, folder=folder)
            else:
                self._encoders[key] = model(row.model, role="encoder", seed=seed)
        return self._encoders[key]


def _score(row: str, name: str, genes: list[str], wanted: list[str], truth: Floats, predicted: list[Floats]) -> Score:
    columns = [wanted.index(gene) for gene in genes]
    figures = [summarise(truth[:, columns], values[:, columns]) for values in predicted]
    means = [np.nan_to_num(f["pcc_mean"]) for f in figures]
    return Score(
        row=row,
        genes=name,
        n_genes=len(genes),
        seeds=len(predicted),
        pcc_mean=float(np.mean(means)),
        pcc_sd=float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        pcc_median=float(np.mean([np.nan_to_num(f["pcc_median"]) for f in figures])),
        constant=int(max(f["constant_predictions"] for f in figures)),
        mse=float(np.mean([f["mse"] for f in figures])),
    )


def report(protocol: Protocol, scores: Sequence[Score]) -> dict[str, Any]:
    """Return the result as JSON values, protocol included, so that figures carry their conditions."""
    from importlib.metadata import version

    from stzoo.core.config import dump

    return {"stzoo": version("stzoo"), "protocol": dump(protocol), "scores": [asdict(score) for score in scores]}
