"""What a kind of protocol does: read its sections, then score a row with a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import Protocol, Row, SplitProtocol
from stzoo.core.io.read import data_source, read

Metrics = dict[str, float]
"""Metrics of a row and a seed, by name."""


class Column(NamedTuple):
    """A metric that tables show: its name, the head of its column, and decimals."""

    name: str
    head: str
    digits: int


class Task(ABC):
    """Runs one kind of protocol; made once, with the sections read, and asked row by row.

    Parameters
    ----------
    protocol
        An instance of :attr:`schema`.
    data
        Folder that holds the sections.
    models
        Models of the rows.
    """

    schema: ClassVar[type[Protocol]]
    """Keys of the protocol file."""
    part: ClassVar[str]
    """What a line is about beside its row, the head of a column: genes, section ..."""
    columns: ClassVar[tuple[Column, ...]]
    """Metrics that tables show."""
    controls: ClassVar[tuple[str, ...]] = ()
    """Controls that rows may name."""

    def __init__(self, protocol: Any, data: Path, models: Models) -> None:
        self.protocol, self.data, self.models = protocol, data, models
        self.notes: list[str] = []
        for row in protocol.rows:
            if row.control and row.control not in self.controls:
                raise ConfigError(
                    f"row '{row.name}' has the control '{row.control}', which '{protocol.kind}' does not know",
                    todo=f"controls: {', '.join(self.controls) or 'none'}",
                )

    @abstractmethod
    def conditions(self) -> str:
        """Return one line on data, split and normalisation."""

    @abstractmethod
    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the scores of a row for each part. Test counts are read for scoring only."""

    def is_random(self, row: Row) -> bool:
        """Say whether a row is repeated for each seed: models that are trained, heads that start at random."""
        return bool(row.recipe) or row.random or "mlp" in row.heads

    def read(self, source: str) -> Section:
        """Read a section below the data folder."""
        return read(data_source(source, self.data))

    def read_available(self, sources: Sequence[str]) -> list[Section]:
        """Read the sections that are there; the others are named in the notes.

        Raises
        ------
        DataError
            None is there.
        """
        found, missing = [], []
        for source in sources:
            try:
                address = data_source(source, self.data)
            except DataError:
                missing.append(source)
            else:
                found.append(read(address))
        if not found:
            raise DataError(f"none of the sections is in {self.data}", where=", ".join(sources))
        if missing:
            self.notes.append(f"not in the data folder, left out: {', '.join(missing)}")
        return found


class SplitTask(Task):
    """A task with training and test sections; of the test sections, models see a blind copy without counts."""

    def __init__(self, protocol: SplitProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        self.train = [self.read(source) for source in protocol.train]
        self.test = [self.read(source) for source in protocol.test]
        self.blind = [section.without_counts() for section in self.test]

    def conditions(self) -> str:
        """Return sections and normalisation."""
        p = self.protocol
        return f"train {', '.join(p.train)}; test {', '.join(p.test)}; log1p of counts per {p.target:g}"
