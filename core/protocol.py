"""An evaluation protocol: data, split, gene rule, normalisation, seeds, models and baselines, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from stzoo.core import config as configs
from stzoo.core.errors import ConfigError
from stzoo.core.plugins import default_host
from stzoo.core.records import ProtocolSpec
from stzoo.core.resources import resource


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


@dataclass
class Row:
    """One line of the result.

    Parameters
    ----------
    name
        What the table prints. A row without model and weights is the gene mean.
    model, recipe
        A model, trained by a recipe for every seed (with ``recipe``), or used as it is (without).
    weights
        Pretrained weights instead.
    head
        Head of the encoder.
    """

    name: str = ""
    model: str = ""
    recipe: str = ""
    weights: str = ""
    head: str = ""


@dataclass
class Protocol:
    """Train on some sections, predict others from their images.

    Parameters
    ----------
    name, question
        What it is called and what it asks.
    train, test
        Sections, ``FOLDER::NAME`` below the data folder.
    min_detected
        Genes are detected in at least this share of the training spots.
    gene_sets
        Genes that are scored.
    target
        Expression is log1p of counts per this many.
    seeds
        Seeds of the rows that are trained.
    rows
        Models and baselines.
    """

    name: str = ""
    question: str = ""
    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    min_detected: float = 0.1
    gene_sets: list[GeneSet] = field(default_factory=list)
    target: float = 10000.0
    seeds: list[int] = field(default_factory=lambda: [0])
    rows: list[Row] = field(default_factory=list)


def load_protocol(name: str) -> Protocol:
    """Read a protocol by name (``stzoo plugins info``) or from a YAML file.

    Raises
    ------
    ConfigError
        An unknown key, a value of the wrong type, or a section on both sides.
    PluginError
        No protocol of that name.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = resource(default_host().find(ProtocolSpec, name)[1].resource)
    protocol = configs.build(Protocol, configs.read_yaml(path), where=path)
    for key in ("train", "test", "gene_sets", "rows", "seeds"):
        if not getattr(protocol, key):
            raise ConfigError(f"'{key}' is missing or empty", where=path)
    both = sorted(set(protocol.train) & set(protocol.test))
    if both:
        raise ConfigError(f"section '{both[0]}' is in train and in test", where=path, todo="test on unseen sections")
    return protocol
