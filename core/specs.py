"""Frozen records that plugins return from hooks: plain values; nothing is imported or loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["encoder", "imputer", "aligner"]
ROLES: tuple[str, ...] = get_args(Role)

API_VERSION = 1
"""Version of the plugin interface that this stzoo implements."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _check(record: object, **fields: bool) -> None:
    for name, valid in fields.items():
        if not valid:
            value = getattr(record, name)
            raise ValueError(f"{type(record).__name__}.{name} is not valid: {value!r}")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_target(value: object) -> bool:
    return isinstance(value, str) and _TARGET.fullmatch(value) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that a plugin provides.

    Parameters
    ----------
    name
        Lower-case name, unique among installed plugins (``dist:name`` is never ambiguous).
    role
        ``encoder``, ``imputer`` or ``aligner``.
    target
        ``"package.module:Class"``, a subclass of the role's interface, imported on first use.
    summary
        One line for ``stzoo plugins list``.
    license, citation
        SPDX identifier of the code; what to cite: a DOI, an arXiv number or a sentence.
    config
        ``"package.module:Config"``, the dataclass of the model's options.
    recipes
        Package folder of training recipes (``"package.module/configs"``), or empty.
    adapts_checkpoints
        The class has ``from_checkpoint(folder, *, source, device)`` and accepts image encoders published by others.
    is_control
        An untrained encoder, used as a control beside fine-tuned weights.
    """

    name: str
    role: Role
    target: str
    summary: str
    license: str
    config: str
    citation: str = ""
    recipes: str = ""
    adapts_checkpoints: bool = False
    is_control: bool = False

    def __post_init__(self) -> None:
        """Validate all fields."""
        _check(
            self,
            name=_is_name(self.name),
            role=self.role in ROLES,
            target=_is_target(self.target),
            summary=isinstance(self.summary, str) and bool(self.summary.strip()),
            license=isinstance(self.license, str) and bool(self.license.strip()),
            config=_is_target(self.config),
        )


@dataclass(frozen=True, slots=True)
class WeightsSpec:
    """Model weights that a plugin provides.

    Parameters
    ----------
    name
        Name used by ``stzoo.load(name)``.
    model
        Name of the model (a :class:`ModelSpec`) that the weights belong to.
    source
        ``package://module/folder`` (inside an installed package), ``hf://owner/repo@commit`` or ``file://folder``.
    summary, license
        One line for ``stzoo zoo list``; SPDX identifier of the weights.
    tissue, embedding_dim, mpp, genes, size_bytes
        Shown in the catalogue: tissue, embedding width, expected µm/px, size of the gene vocabulary, bytes to
        download. 0 or empty: not stated.
    commercial
        Whether the licences of weights and data allow commercial use; None: not stated.
    metrics
        Scores of an evaluation by name, e.g. ``{"her2st-c5, mlp: mean PCC of 250 genes": 0.29}``.
    citation
        What to cite: a DOI, an arXiv number or a sentence.
    """

    name: str
    model: str
    source: str
    summary: str
    license: str
    tissue: str = ""
    embedding_dim: int = 0
    mpp: float = 0.0
    genes: int = 0
    size_bytes: int = 0
    commercial: bool | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    citation: str = ""

    def __post_init__(self) -> None:
        """Validate all fields."""
        _check(
            self,
            name=_is_name(self.name),
            model=_is_name(self.model),
            source=isinstance(self.source, str) and self.source.startswith(("package://", "hf://", "file://")),
            summary=isinstance(self.summary, str) and bool(self.summary.strip()),
            license=isinstance(self.license, str) and bool(self.license.strip()),
            tissue=isinstance(self.tissue, str),
            embedding_dim=_is_amount(self.embedding_dim),
            mpp=_is_amount(self.mpp),
            genes=_is_amount(self.genes),
            size_bytes=_is_amount(self.size_bytes),
            commercial=self.commercial in (None, True, False),
            metrics=isinstance(self.metrics, Mapping) and all(_is_number(value) for value in self.metrics.values()),
            citation=isinstance(self.citation, str),
        )


@dataclass(frozen=True, slots=True)
class _ClassSpec:
    """A name, a class (``"package.module:Class"``) and one line on it."""

    name: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        """Validate all fields."""
        _check(
            self,
            name=_is_name(self.name),
            target=_is_target(self.target),
            summary=isinstance(self.summary, str) and bool(self.summary.strip()),
        )


@dataclass(frozen=True, slots=True)
class ReaderSpec(_ClassSpec):
    """A file format.

    Parameters
    ----------
    name
        Name of the format, as printed by ``stzoo data inspect``.
    target
        ``"package.module:Reader"``, a :class:`stzoo.Reader`.
    summary
        One line: which files it recognises.
    """


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """An evaluation protocol, as a YAML file inside a package.

    Parameters
    ----------
    name
        Name used by ``stzoo evaluate NAME``.
    resource
        ``"package.module/file.yaml"``.
    summary
        One line: data, split and question.
    """

    name: str
    resource: str
    summary: str

    def __post_init__(self) -> None:
        """Validate all fields."""
        _check(
            self,
            name=_is_name(self.name),
            resource=isinstance(self.resource, str) and "/" in self.resource and self.resource.endswith(".yaml"),
            summary=isinstance(self.summary, str) and bool(self.summary.strip()),
        )


@dataclass(frozen=True, slots=True)
class HeadSpec(_ClassSpec):
    """A head: predicts expression from the embedding of any encoder.

    Parameters
    ----------
    name
        Name used by ``stzoo predict --head NAME`` and ``Encoder.fit(head=NAME)``.
    target
        ``"package.module:Head"``, a class that implements :class:`stzoo.Head`, imported on first use.
    summary
        One line: how it predicts.
    """


@dataclass(frozen=True, slots=True)
class TaskSpec(_ClassSpec):
    """A kind of evaluation protocol.

    Parameters
    ----------
    name
        Selected in a protocol file by ``kind: NAME``.
    target
        ``"package.module:Task"``, a :class:`stzoo.Task`, imported on first use.
    summary
        One line: the question it answers.
    """


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """A tracker of training runs (an experiment logger).

    Parameters
    ----------
    name
        Name used by ``stzoo train --tracker NAME``.
    target
        ``"package.module:Tracker"``, a :class:`stzoo.core.training.Tracker`, imported and called on first use.
    summary
        One line: where it writes the metrics.
    requires
        Requirement to ``pip install`` if the target cannot be imported, or empty.
    """

    name: str
    target: str
    summary: str
    requires: str = ""

    def __post_init__(self) -> None:
        """Validate all fields."""
        _check(
            self,
            name=_is_name(self.name),
            target=_is_target(self.target),
            summary=isinstance(self.summary, str) and bool(self.summary.strip()),
            requires=isinstance(self.requires, str),
        )


Spec = ModelSpec | WeightsSpec | ReaderSpec | HeadSpec | ProtocolSpec | TaskSpec | TrackerSpec
