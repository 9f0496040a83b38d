"""Protocols of kind ``retrieval``: find a spot's profile by its image, and its image by its profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stzoo import Column, ConfigError, Row, SplitTask, UsageError
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.task import Metrics
from stzoo.core.metrics import partner_ranks
from stzoo.plugins.benchmarks.kinds.expression import ExpressionProtocol, gene_sets

AT = (1, 5, 10, 50)


@dataclass
class RetrievalProtocol(ExpressionProtocol):
    """Rank the spots of each test section by similarity; ``gene_sets`` holds the one set that heads predict."""


class Retrieval(SplitTask):
    """Recall@k and median rank of the right spot among all spots of its section; ties share the mean rank.

    A row without head compares ``image_vectors`` and ``expression_vectors`` of its encoder; a row with a head compares
    predicted and measured profiles, every gene centred and scaled by the training spots. Control: ``chance``.
    """

    schema = RetrievalProtocol
    part = "query and answer"
    columns = (
        *(Column(f"recall_{k}", f"R@{k}", 3) for k in AT),
        Column("median_rank", "median rank", 1),
        Column("n", "of", 0),
    )
    controls = ("chance",)

    def __init__(self, protocol: RetrievalProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        if len(protocol.gene_sets) != 1:
            raise ConfigError(f"{len(protocol.gene_sets)} gene sets, expected one", where=protocol.name)
        (self.genes,) = gene_sets(self.train, self.test, protocol).values()
        known = np.concatenate([s.expression(self.genes, target=protocol.target)[s.measured] for s in self.train])
        self.mean, self.spread = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the scores of both directions, averaged over test sections (see :class:`Task`)."""
        tables = [np.zeros((s.n_spots, s.n_spots)) for s in self.test]  # chance: all tie
        if row.control != "chance":
            images, profiles = self._profiles(row, seed) if row.head else self._vectors(row, seed)
            tables = [_unit(image) @ _unit(profile).T for image, profile in zip(images, profiles, strict=True)]
        expected = row.control == "chance"
        return {
            "image -> expression": _average([_metrics(table, expected) for table in tables]),
            "expression -> image": _average([_metrics(table.T, expected) for table in tables]),
        }

    def _vectors(self, row: Row, seed: int) -> tuple[list[Floats], list[Floats]]:
        encoder = self.models.encoder(row, seed, self.train)
        try:
            images = [encoder.image_vectors(section) for section in self.blind]
            return images, [encoder.expression_vectors(section) for section in self.test]
        except UsageError as error:
            todo = "give the row a head: predicted and measured profiles are compared then"
            raise UsageError(f"row '{row.name}': {error.what}", todo=todo) from error

    def _profiles(self, row: Row, seed: int) -> tuple[list[Floats], list[Floats]]:
        predicted = self.models.predict(row, seed, self.genes, self.train, self.blind)
        measured = [s.expression(self.genes, target=self.protocol.target) for s in self.test]
        images, profiles = ([(v - self.mean) / self.spread for v in values] for values in (predicted, measured))
        return images, profiles


def _unit(x: Floats) -> Doubles:
    x64 = x.astype(np.float64)
    return np.asarray(x64 / np.maximum(np.linalg.norm(x64, axis=1, keepdims=True), 1e-12))


def _metrics(similarity: Doubles, chance: bool) -> Metrics:
    n = len(similarity)
    ranks = partner_ranks(similarity)
    recall = {f"recall_{k}": min(k, n) / n if chance else float((ranks <= k).mean()) for k in AT}
    return {**recall, "median_rank": float(np.median(ranks)), "n": n}


def _average(found: list[Metrics]) -> Metrics:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
