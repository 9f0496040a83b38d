"""Protocols of kind ``finetune``: weights tuned on some spots of one section, tested on another."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo import Column, Encoder, Protocol, Row, Section, Task
from stzoo.core import config as configs
from stzoo.core.arrays import Floats
from stzoo.core.data.splits import FEW, By, SplitOptions, split
from stzoo.core.data.subsets import SpotSubset, detected_genes, expression_of, measured_subsets
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.evaluation.task import Metrics
from stzoo.core.finetuning.controls import (
    HEAD,
    TUNED,
    as_they_come,
    fit_carried_head,
    gene_mean,
    head_on,
    own_head,
    score_line,
)
from stzoo.core.finetuning.data import embed_subsets
from stzoo.core.finetuning.plan import make_plan
from stzoo.core.finetuning.run import before, choose_network, fit_tuned_head
from stzoo.core.finetuning.settings import Settings, Tune
from stzoo.core.finetuning.tuning import tune

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class FinetuneProtocol(Protocol):
    """Tune weights on own spots, test them on a section that neither the weights nor the spots come from.

    Parameters
    ----------
    base
        Sections that the weights of a row with a recipe are trained on.
    train, test
        The own section, of which spots are drawn, and the section that is scored.
    sizes
        Numbers of spots drawn from it; 0 for all.
    network_from
        Rows that tune the network are run for so many spots and more.
    genes, min_detected
        Genes that are scored: so many of highest mean, among those detected in that share of the spots of ``base`` and
        ``train``.
    """

    base: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [0])
    network_from: int = FEW
    genes: int = 250
    min_detected: float = 0.1


class Finetune(Task):
    """Mean over genes of the Pearson correlation over the test spots, for each number of own spots.

    A row without a model is the gene mean. With a model and no control a head is fitted on the own spots, on the frozen
    embedding. Controls: ``as-it-comes``, the weights with their own head; ``with-base``, a head fitted on the own spots
    and on those that the weights were trained on (which nobody has who only has the weights); ``head``, their own head
    tuned on the own spots; ``full`` and ``lora``, the network tuned as well (``full-contrast``, ``lora-contrast``: with
    its own objective); ``kept-...``: of the two what validation on a slab of the own spots prefers, as ``stzoo
    finetune`` does.
    """

    schema = FinetuneProtocol
    part = "own spots"
    columns = (Column("pcc_mean", "PCC mean", 3), Column("pcc_median", "PCC median", 3))
    controls = (
        "as-it-comes",
        "with-base",
        "head",
        *(f"{kept}{way}{own}" for kept in ("", "kept-") for way in ("full", "lora") for own in ("", "-contrast")),
    )

    def __init__(self, protocol: FinetuneProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        self.base = [self.read(source) for source in protocol.base]
        self.own = [self.read(source) for source in protocol.train]
        test = [self.read(source) for source in protocol.test]
        self.test = [SpotSubset(section, section.counted) for section in test]
        subsets = measured_subsets([*self.base, *self.own])
        names = detected_genes(subsets, protocol.min_detected)
        has = set.intersection(*(set(section.genes) for section in test))
        best = GeneSet(count=protocol.genes).columns(expression_of(subsets, names, protocol.target))
        self.genes = tuple(names[i] for i in best if names[i] in has)
        self.truth = expression_of(self.test, self.genes)

    def conditions(self) -> str:
        """Return sections and normalisation."""
        p = self.protocol
        return (
            f"weights trained on {', '.join(p.base)}; own spots of {', '.join(p.train)}; test {', '.join(p.test)}; "
            f"{len(self.genes)} genes of highest mean on the sections before; log1p of counts per {p.target:g}"
        )

    def is_random(self, row: Row) -> bool:
        """Say that every row with a model depends on the seed: of the weights, and of the spots that are drawn."""
        return bool(row.model or row.weights)

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the scores for each number of own spots (see :class:`Task`)."""
        found = {}
        for size in self.protocol.sizes:
            pieces = [SpotSubset(section, draw_spots(section, size, seed)) for section in self.own]
            n = sum(piece.n for piece in pieces)
            if _tunes_network(row) and n < self.protocol.network_from:
                continue
            line = score_line(row.name, self.truth, self._predict(row, seed, pieces))
            found[f"{n} spots"] = {"pcc_mean": line.mean, "pcc_median": line.median}
        return found

    def _predict(self, row: Row, seed: int, pieces: list[SpotSubset]) -> Floats:
        """Return what a row says of the test spots, float32 (n, g)."""
        means = gene_mean(pieces, self.test, self.genes)
        if not (row.model or row.weights):
            return means
        encoder = self.models.encoder(row, seed, self.base)
        if _tunes_network(row):
            return self._predict_tuned(row, seed, pieces, encoder)
        seen = embed_subsets(encoder, self.test)
        if row.control == "as-it-comes":
            own = as_they_come(encoder, seen, self.genes, means)
            return means if own is None else own
        if row.control == "with-base":
            pieces = [*(SpotSubset(section, section.counted) for section in self.base), *pieces]
        if row.control == "head":
            return fit_carried_head(encoder, pieces, self.genes, own_head(encoder)).predict(seen).values
        return head_on(encoder, pieces, self.genes, row.head or encoder.default_head).predict(seen).values

    def _predict_tuned(self, row: Row, seed: int, pieces: list[SpotSubset], encoder: Encoder) -> Floats:
        way, _, own = row.control.removeprefix("kept-").partition("-")
        mark = f"finetune-{encoder.name}-{way}{own}-{sum(p.n for p in pieces)}-seed{seed}-{_digest(self, encoder)}"
        arrays = self.models.load_or_make(mark, lambda: self._tune(way, bool(own), seed, pieces, encoder))
        kept = HEAD if row.control.startswith("kept-") and not arrays["keeps"] else TUNED
        return np.asarray(arrays["tuned" if kept == TUNED else "head"], dtype=np.float32)

    def _tune(self, way: str, contrast: bool, seed: int, pieces: list[SpotSubset], encoder: Encoder) -> Arrays:
        sections = [_only(piece) for piece in pieces]
        options = SplitOptions(by=By.block, same_patient=True)
        found = split(sections, [piece.section for piece in self.test], options)
        settings = replace(Settings(), tune=Tune(way), contrast=contrast)
        plan = make_plan(encoder, found, genes=self.genes, settings=settings, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            tuned = tune(plan, Path(folder) / "run", progress=False)
        judged = before(plan) | {TUNED: tuned.fit.validation["pcc"]}
        head = fit_carried_head(plan.encoder, plan.development, plan.scored, own_head(plan.encoder))
        order = [plan.scored.index(gene) for gene in self.genes]
        after = fit_tuned_head(plan, tuned, plan.scored).predict(embed_subsets(tuned.encoder, self.test)).values
        start = head.predict(embed_subsets(plan.encoder, self.test)).values
        return {"tuned": after[:, order], "head": start[:, order], "keeps": np.array(choose_network(judged) == TUNED)}


def draw_spots(section: Section, size: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return ``size`` usable spots of a section drawn at random, or all for 0, bool (n,)."""
    spots = section.counted
    if size == 0:
        return spots
    at = np.flatnonzero(spots)
    chosen_spots = np.zeros_like(spots)
    chosen_spots[np.random.default_rng(seed).permutation(at)[:size]] = True
    return chosen_spots


def _only(piece: SpotSubset) -> Section:
    """Return a section in which only the spots of a piece are measured."""
    return piece.section.hide(piece.spots)


def _tunes_network(row: Row) -> bool:
    return row.control.removeprefix("kept-").partition("-")[0] in ("full", "lora")


def _digest(task: Finetune, encoder: Encoder) -> str:
    """Return ten digits that change with the starting weights, the genes and the settings."""
    import hashlib
    import json

    weights = hashlib.sha256()
    for name, tensor in sorted(encoder.state().items()):
        weights.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
    what = [weights.hexdigest(), task.genes, configs.dump(Settings()), task.protocol.train, task.protocol.test]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:10]
