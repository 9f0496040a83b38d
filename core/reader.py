"""The contract of a reader: it recognises one file format, and reads its sections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from stzoo.core.data.section import Section


class Reader(ABC):
    """Reads one file format."""

    format: ClassVar[str]
    """Name of the format, as its :class:`~stzoo.core.specs.ReaderSpec` has it."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Say whether a path is of this format, from names and headers alone (cheap, never raises)."""

    @abstractmethod
    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the sections at a path."""

    @abstractmethod
    def read(self, path: Path, section: str) -> Section:
        """Read one section; :func:`stzoo.core.io.read.read` checks it and applies the options."""

    def read_lazily(self, path: Path, section: str) -> Section:
        """Read one section, its counts left on disk where the format can; by default all is read."""
        return self.read(path, section)
