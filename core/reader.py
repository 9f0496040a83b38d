"""The interface of readers: each recognises one file format and reads its sections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from stzoo.core.data.section import Section


class Reader(ABC):
    """Reads one file format."""

    format: ClassVar[str]
    """Name of the format, as in its :class:`~stzoo.core.specs.ReaderSpec`."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Return whether a path has this format, judged by names and headers only (cheap, never raises)."""

    @abstractmethod
    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the sections at a path."""

    @abstractmethod
    def read(self, path: Path, section: str) -> Section:
        """Read one section; :func:`stzoo.core.io.read.read` validates it and applies the options."""

    def read_lazily(self, path: Path, section: str) -> Section:
        """Read one section, leaving its counts on disk if the format allows; by default everything is read."""
        return self.read(path, section)
