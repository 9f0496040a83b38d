"""Protocols of kind ``stack``: 2.5D sampling. One section is measured at all spots, the others at few; fill those."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from stzoo import Aligner, Column, ConfigError, DataError, Imputer, Row, Section, Stack, model
from stzoo.core.arrays import Array, Floats
from stzoo.core.errors import nearest
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.plugins.benchmarks.kinds.hidden_spots import HiddenProtocol, HiddenTask, PartScores, average, mark
from stzoo.plugins.benchmarks.kinds.stack_data import NO_ALIGNER, Round
from stzoo.plugins.benchmarks.kinds.stack_score import Guess, fill_stack, guess, score_section

ALL = "all sections"
"""The part that is the mean over the adjacent sections."""
FULL = "fully-measured"
"""The control that knows all other spots of a section."""


class Uses(Enum):
    """Which measured spots a row may use to fill a section."""

    all = "all"
    central = "central"
    sparse = "sparse"


@dataclass
class StackRow(Row):
    """A row of a stack protocol.

    A row with a head is an encoder: the head is fitted on the measured spots that the row may use, and predicts the
    adjacent sections from their images. Every other row is an imputer.

    Parameters
    ----------
    aligner
        Another aligner than the protocol's; ``none`` leaves the sections where they are.
    uses
        ``all`` measured spots; those of the ``central`` section only (encoders, since an imputer needs measured spots
        in every section); or the ``sparse`` ones of the very section that is filled, each section by itself.
    """

    aligner: str = ""
    uses: Uses = Uses.all


@dataclass
class StackProtocol(HiddenProtocol):
    """Fill the adjacent sections of a stack.

    Rules that differ only in what follows their ``+`` (a phase, a seed) are averaged; others are parts of their own.

    Parameters
    ----------
    sections
        Below the data folder, in order of depth. Genes are those that all of them have.
    in_tissue
        Leave out spots that a section marks as outside the tissue (``obs["in_tissue"]``).
    central
        Names of the sections that are central in turn: measured at all spots, the frame of the others.
    aligner
        Name of an aligner, or ``none``. It sees measured counts only.
    genes, min_detected
        Genes that are filled and scored: the first by rank among those detected in this share of the measured spots,
        chosen on the measured spots of all sections together, so that every run may have others.
    folds
        Parts of the control ``fully-measured``.
    """

    sections: list[str] = field(default_factory=list)
    in_tissue: bool = False
    central: list[str] = field(default_factory=list)
    aligner: str = "rigid"
    genes: GeneSet = field(default_factory=lambda: GeneSet(count=250))
    min_detected: float = 0.1
    folds: int = 5
    rows: list[StackRow] = field(default_factory=list)  # type: ignore[assignment]  # more keys than other kinds have

    def row_for(self, name: str, role: str) -> Row:
        """Return the row of a model with its default options; an aligner is scored by ``transfer`` through it."""
        if role == "aligner":
            return StackRow(name=f"transfer, {name}", model="transfer", aligner=name)
        return super().row_for(name, role)


class StackTask(HiddenTask):
    """Scores over the hidden spots of every adjacent section, and their means over sections.

    ``pcc_median`` and ``pcc_mean`` are over genes that vary among a section's hidden spots; a gene filled with a
    constant scores 0. ``rho`` is Spearman's correlation of a spot's confidence (mean over genes) and its error (mean
    over genes of the squared error, in units of the gene's variance): below 0 where confidence is worth something.
    ``pcc_trusted`` is the median PCC over the more trusted half of the hidden spots. ``gain``, ``genes_better`` and
    ``p_pcc`` as :class:`HiddenTask` has them, over the genes of all sections together in the part ``all sections``.
    ``seconds`` is the wall time of filling all sections once, alignment apart.

    Control ``fully-measured``: the row's imputer on each adjacent section alone, of which all spots are measured but
    one fold of them, in turn. What sparse sampling is compared with; no method that saves measurements.
    """

    schema = StackProtocol
    part = "sections"
    columns = (
        Column("pcc_median", "PCC median", 3),
        Column("pcc_mean", "PCC mean", 3),
        Column("mse", "MSE", 3),
        Column("mae", "MAE", 3),
        Column("gain", "gain", 2),
        Column("genes_better", "genes better", 2),
        Column("p_pcc", "p", 4),
        Column("rho", "rho", 2),
        Column("pcc_trusted", "trusted half", 3),
        Column("seconds", "s", 1),
    )
    controls = (FULL,)

    def __init__(self, protocol: StackProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        self._aligner(protocol.aligner)
        self._imputers: dict[tuple[str, int], Imputer] = {}
        self.sections = [self._section(source) for source in protocol.sections]
        self.rounds = list(self._rounds(protocol))
        self.notes.append(_on_genes(self.rounds))

    def check(self, row: Row) -> None:
        """Refuse a row whose options do not go together (see :class:`HiddenTask`)."""
        assert isinstance(row, StackRow)
        self._aligner(row.aligner or NO_ALIGNER)
        if _is_encoder(row):
            if row.control:
                raise ConfigError(f"row '{row.name}' has a head, but the control '{row.control}' takes an imputer")
            if not (row.weights or row.recipe):
                self.models.encoder(row, self.protocol.seeds[0])
            return
        if row.uses is Uses.central:
            raise ConfigError(
                f"row '{row.name}' uses the central section only, which an imputer can not",
                todo="an encoder can: name its head; imputers use: all, sparse",
            )
        super().check(row)

    def conditions(self) -> str:
        """Return sections, rules and normalisation."""
        p = self.protocol
        spots = ", ".join(f"{section.name} ({section.n_spots} spots)" for section in self.sections)
        return (
            f"{spots}; central {', '.join(p.central)}; measured of the others {', '.join(p.measured)}; scored on their"
            f" other spots; aligner {p.aligner}; log1p of counts per {p.target:g}"
        )

    def run(self, row: Row, seed: int) -> dict[str, PartScores]:
        """Return what a row scores on each part."""
        assert isinstance(row, StackRow)
        kinds = list(dict.fromkeys(_kind(one.rule) for one in self.rounds))
        found: dict[str, dict[str, list[PartScores]]] = {kind: {} for kind in kinds}
        for one in self.rounds:
            for name, outcome in self._run(row, seed, one).items():
                found[_kind(one.rule)].setdefault(name, []).append(outcome)
        parts: dict[str, PartScores] = {}
        for kind in kinds:
            own = {s.name: average(found[kind][s.name]) for s in self.sections if s.name in found[kind]}
            together = PartScores(
                average(list(own.values())).metrics, np.concatenate([one.pcc for one in own.values()])
            )
            parts |= {ALL: together, **own} if len(kinds) == 1 else {kind: together}
            if len(kinds) > 1:
                parts |= {f"{kind}, {name}": outcome for name, outcome in own.items()}
        return parts

    def _run(self, row: StackRow, seed: int, one: Round) -> dict[str, PartScores]:
        """Return the outcome of each adjacent section in one run; correlations are by the genes of all sections."""
        start = time.perf_counter()
        if _is_encoder(row):
            guesses = self._predict_adjacent(row, seed, one)
            seconds = time.perf_counter() - start
        else:
            guesses, seconds = self._fill_adjacent(row, seed, one)
        genes = [self._genes[gene] for gene in one.genes]
        found = {}
        for number, said in guesses.items():
            metrics, pcc = score_section(one.truth[number][one.scored[number]], said)
            whole = np.full(len(self._genes), np.nan)
            whole[genes] = pcc
            found[self.sections[number].name] = PartScores({**metrics, "seconds": seconds}, whole)
        return found

    def _fill_adjacent(self, row: StackRow, seed: int, one: Round) -> tuple[dict[int, Guess], float]:
        """Return what an imputer says of each adjacent section, and the seconds it took."""
        if (row.name, seed) not in self._imputers:  # kept: an imputer may remember what it read from the images
            self._imputers[row.name, seed] = self.imputer(row, seed)
        imputer = self._imputers[row.name, seed]
        if row.control == FULL:
            return self._from_all_others(imputer, one, seed)
        if row.uses is Uses.sparse:
            done = {i: self._impute(imputer, Stack((one.given.sections[i],))) for i in one.adjacent}
            return {i: guess(kept, 0, one.scored[i]) for i, kept in done.items()}, _seconds(done.values())
        name = row.aligner or self.protocol.aligner
        kept = self._impute(imputer, one.align(name, lambda: self._make_aligner(name)))
        return {i: guess(kept, i, one.scored[i]) for i in one.adjacent}, _seconds([kept])

    def _from_all_others(self, imputer: Imputer, one: Round, seed: int) -> tuple[dict[int, Guess], float]:
        """Fill each fold of each adjacent section from all its other spots."""
        found, done = {}, []
        for i in one.adjacent:
            section = self.sections[i].take_genes(one.genes)
            fold = np.random.default_rng(seed).permutation(section.n_spots) % self.protocol.folds
            values, sure = np.empty(one.truth[i].shape, dtype=np.float32), np.empty(len(fold))
            for number in range(self.protocol.folds):
                out = fold == number
                done.append(self._impute(imputer, Stack((section.hide(~out),))))
                values[out], sure[out] = done[-1]["values0"][out], done[-1]["confidence0"][out]
            found[i] = Guess(values[one.scored[i]], sure[one.scored[i]])
        return found, _seconds(done)

    def _impute(self, imputer: Imputer, stack: Stack) -> dict[str, Array]:
        """Return ``values0`` (spots, genes), ``confidence0`` (spots,) ... of each section, and ``seconds``."""
        target = self.protocol.target
        return self.models.load_or_make(mark(imputer, stack, target), lambda: fill_stack(imputer, stack, target))

    def _predict_adjacent(self, row: StackRow, seed: int, one: Round) -> dict[int, Guess]:
        """Fit the row's heads on what it may use, and predict the adjacent sections from their images."""
        given = one.given.sections
        blind = {i: given[i].without_counts() for i in one.adjacent}
        if row.uses is Uses.sparse:
            values = [self._heads(row, seed, one, [given[i]], [blind[i]])[0] for i in one.adjacent]
        else:
            train = [given[one.central]] if row.uses is Uses.central else list(given)
            values = self._heads(row, seed, one, train, list(blind.values()))
        return {i: Guess(value[one.scored[i]]) for i, value in zip(one.adjacent, values, strict=True)}

    def _heads(self, row: StackRow, seed: int, one: Round, train: list[Section], test: list[Section]) -> list[Floats]:
        return self.models.predict(row, seed, one.genes, train, test, again=True)

    def _rounds(self, protocol: StackProtocol) -> Iterator[Round]:
        names = [section.name for section in self.sections]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"sections are {', '.join(names)}, expected at least two of different names", where=protocol.name
            )
        if protocol.folds < 2:
            raise ConfigError(f"folds is {protocol.folds}, expected at least 2", where=protocol.name)
        for name in protocol.central:
            if name not in names:
                raise ConfigError(
                    f"central names '{name}', which is no section{nearest(name, names)}",
                    where=protocol.name,
                    todo=f"sections: {', '.join(names)}",
                )
        shared = set.intersection(*(set(section.genes) for section in self.sections))
        self._genes = {gene: i for i, gene in enumerate(sorted(shared))}
        for name in protocol.central:
            for rule in protocol.measured:
                yield Round.of(
                    self.sections,
                    names.index(name),
                    rule,
                    genes=protocol.genes,
                    min_detected=protocol.min_detected,
                    target=protocol.target,
                )

    def _section(self, source: str) -> Section:
        section = self.read(source)
        if not self.protocol.in_tissue:
            return section
        if "in_tissue" not in section.adata.obs:
            raise DataError(
                f"section '{section.name}' has no obs['in_tissue']", where=source, todo="leave in_tissue out"
            )
        return section.take(np.asarray(section.adata.obs["in_tissue"]).astype(bool))

    def _aligner(self, name: str) -> None:
        """Refuse an aligner that is not known."""
        if name != NO_ALIGNER:
            self._make_aligner(name)

    @staticmethod
    def _make_aligner(name: str) -> Aligner:
        made: Aligner = model(name, role="aligner")
        return made


def _seconds(done: Any) -> float:
    return float(sum(float(kept["seconds"]) for kept in done))


def _is_encoder(row: Row) -> bool:
    return bool(row.head or row.recipe)


def _kind(rule: str) -> str:
    """Return a rule without its phase or seed."""
    return rule.partition("+")[0]


def _on_genes(rounds: Sequence[Round]) -> str:
    """Say which genes were chosen."""
    always = [gene for gene in rounds[0].genes if all(gene in one.genes for one in rounds)]
    ever = set().union(*(one.genes for one in rounds))
    return (
        f"{len(rounds[0].genes)} genes a run, chosen on measured spots; {len(always)} are in all of {len(rounds)} runs,"
        f" {len(ever)} in any; in all: {' '.join(always)}"
    )
