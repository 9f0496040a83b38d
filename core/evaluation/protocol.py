"""An evaluation protocol: data, split, gene rule, normalisation, seeds, models and baselines, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from stzoo.core.arrays import Floats, Indices
from stzoo.core.data.genes import top_genes
from stzoo.core.data.section import PER_10K
from stzoo.core.errors import UsageError


class Rank(Enum):
    """By what genes are ranked, on the training sections only."""

    mean = "mean"
    variance = "variance"


@dataclass
class GeneSet:
    """A set of genes that is scored: the first ``count`` by ``rank``."""

    name: str = ""
    rank: Rank = Rank.mean
    count: int = 50

    def columns(self, values: Floats) -> Indices:
        """Return the columns of its genes, best first, by the rows of ``values``, float32 (n, g)."""
        return top_genes(values, self.count, by_variance=self.rank is Rank.variance)


@dataclass
class Row:
    """One line of the result.

    Parameters
    ----------
    name
        What the table prints. A row without model, weights and control is the gene mean.
    model, recipe
        A model, trained by a recipe for every seed (with ``recipe``), or used as it is (without).
    weights
        Pretrained weights instead.
    head
        Head of the encoder; ``ridge+retrieval`` is the mean of what both predict. Some kinds read it otherwise.
    overrides
        ``key.sub=value``, applied to the config of the recipe, or to the options of a model without one. ``{data}`` in
        a value is the data folder: ``images={data}/natural/skimage_gray``.
    untrained
        The model of the recipe with its random initial weights.
    control
        A control of the protocol's kind, by name.
    random
        The model depends on its seed: the row is repeated for every seed (rows with a recipe always are).
    """

    name: str = ""
    model: str = ""
    recipe: str = ""
    weights: str = ""
    head: str = ""
    overrides: list[str] = field(default_factory=list)
    untrained: bool = False
    control: str = ""
    random: bool = False

    @property
    def heads(self) -> list[str]:
        """Heads whose predictions are averaged; one empty name for the default head."""
        return self.head.split("+")

    def below(self, data: Path) -> Row:
        """Return the row with ``{data}`` in its overrides replaced by a folder, as an absolute path."""
        return replace(self, overrides=[item.replace("{data}", str(data.resolve())) for item in self.overrides])


@dataclass
class Protocol:
    """What every kind of protocol has.

    Parameters
    ----------
    name, question
        What it is called and what it asks.
    kind
        Name of a :class:`~stzoo.core.specs.TaskSpec` of an installed plugin.
    warning
        What must be read beside the result: printed after the table and kept in the JSON.
    target
        Expression is log1p of counts per this many.
    seeds
        Seeds of the rows that are random (trained, for most kinds).
    rows
        Models and baselines.
    """

    name: str = ""
    question: str = ""
    kind: str = "expression"
    warning: str = ""
    target: float = PER_10K
    seeds: list[int] = field(default_factory=lambda: [0])
    rows: list[Row] = field(default_factory=list)

    def row_for(self, name: str, role: str) -> Row:
        """Return the row of a model with its default options.

        Raises
        ------
        UsageError
            A kind of protocol has no use for a model of that role (here: aligners).
        """
        if role == "aligner":
            raise UsageError(f"'{self.name}' has no use for the aligner '{name}'", todo="score it on stacks")
        return type(self.rows[0])(name=name, model=name)


@dataclass
class SplitProtocol(Protocol):
    """Train on some sections, test on others.

    Parameters
    ----------
    train, test
        Sections, ``FOLDER::NAME`` below the data folder.
    min_detected
        Genes are detected in at least this share of the training spots.
    """

    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    min_detected: float = 0.1
