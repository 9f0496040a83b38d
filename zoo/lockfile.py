"""``stzoo.lock``: which weights a project uses, byte for byte.

A branch or tag of the Hub is resolved to a commit once and written here; from then on the project gets that commit. An
entry is always obeyed. With ``--locked`` (or ``STZOO_LOCKED=1``) weights without an entry are refused as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stzoo.core import config as configs
from stzoo.core.config import read_yaml
from stzoo.core.errors import WeightsError
from stzoo.core.runtime.outputs import writing

LOCK = "stzoo.lock"
VARIABLE = "STZOO_LOCKED"
VERSION = 1
_HEAD = "# Made by stzoo; keep it under version control. Change an entry with: stzoo zoo lock NAME\n"


@dataclass
class LockedFile:
    """Size and digest of one file."""

    bytes: int = 0
    sha256: str = ""


@dataclass
class LockedWeights:
    """What a name stands for.

    Parameters
    ----------
    source
        Address of the weights; of the Hub always at a commit.
    files
        Every file of theirs.
    """

    source: str = ""
    files: dict[str, LockedFile] = field(default_factory=dict)


@dataclass
class LockFile:
    """Keys of the file."""

    version: int = VERSION
    weights: dict[str, LockedWeights] = field(default_factory=dict)


@dataclass
class Lock:
    """The lock file of a folder.

    Parameters
    ----------
    path
        Where it is, or will be.
    weights
        Its entries, by the name or address that is asked for.
    strict
        Weights without an entry are refused.
    """

    path: Path
    weights: dict[str, LockedWeights]
    strict: bool = False

    @classmethod
    def here(cls, folder: Path | None = None, *, strict: bool | None = None) -> Lock:
        """Read the lock file of a folder, by default the working directory; without one the lock is empty.

        Raises
        ------
        ConfigError
            The file is not what this stzoo writes.
        WeightsError
            It is of another version.
        """
        path = (folder or Path()) / LOCK
        strict = bool(os.environ.get(VARIABLE)) if strict is None else strict
        if not path.is_file():
            return cls(path, {}, strict)
        content: Any = configs.build(LockFile, read_yaml(path), where=path)
        if content.version != VERSION:
            raise WeightsError(
                f"the lock file has version {content.version}, this stzoo reads {VERSION}",
                where=path,
                todo="pip install --upgrade stzoo" if content.version > VERSION else "make it again: stzoo zoo lock",
            )
        return cls(path, dict(content.weights), strict)

    def allow(self, key: str) -> None:
        """Refuse weights without an entry, if the lock is strict."""
        if self.strict and key not in self.weights:
            raise WeightsError(
                f"'{key}' is not in {LOCK}, and --locked allows nothing else",
                where=self.path.resolve().parent,
                todo=f"stzoo zoo lock {key}",
            )

    def check(self, key: str, source: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse weights that differ from their entry; without an entry there is nothing to compare.

        Raises
        ------
        WeightsError
            Naming the first file that differs.
        """
        entry = self.weights.get(key)
        if entry is None:
            return
        known = {name: asdict(file) for name, file in entry.files.items()}
        differing = sorted(name for name in {*known, *files} if known.get(name) != files.get(name))
        if differing or entry.source != source:
            what = f"'{differing[0]}' differs" if differing else f"they come from {source}, locked is {entry.source}"
            raise WeightsError(
                f"'{key}' is not what {LOCK} says: {what}",
                where=self.path,
                todo=f"if that is meant: stzoo zoo lock {key}; otherwise find out who changed them",
            )

    def add(self, key: str, source: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Enter weights and write the file; it is whole at any moment."""
        own = {name: LockedFile(int(file["bytes"]), str(file["sha256"])) for name, file in sorted(files.items())}
        self.weights[key] = LockedWeights(source, own)
        self._write()

    def _write(self) -> None:
        import yaml

        weights = {key: asdict(entry) for key, entry in sorted(self.weights.items())}
        text = yaml.safe_dump({"version": VERSION, "weights": weights}, sort_keys=False, allow_unicode=True, width=120)
        with writing(self.path, overwrite=True) as scratch:
            scratch.write_text(_HEAD + text, encoding="utf-8")
