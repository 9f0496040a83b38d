"""One resolver for every way to name weights: a plugin's name, a folder, or an address of the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stzoo.core.discovery.manager import Plugin, PluginManager, default_manager
from stzoo.core.errors import UnknownNameError, WeightsError
from stzoo.core.runtime.resources import package_folder
from stzoo.core.specs import WeightsSpec
from stzoo.core.weights.manifest import MANIFEST, DamagedError, check_layout
from stzoo.zoo.foreign import digests_of, is_checkpoint
from stzoo.zoo.lockfile import Lock


@dataclass(frozen=True)
class Resolved:
    """Where weights are.

    Parameters
    ----------
    name
        What they are called: the name of their record, or of the folder, or their Hub address.
    source
        Their address, without machine paths: ``package://...``, ``hf://...@commit`` or ``file://FOLDERNAME``.
    folder
        The local repository folder.
    key
        How they were asked for, and how ``stzoo.lock`` lists them.
    plugin, spec
        The record that names them and its plugin, where there is one.
    moving
        They were asked for by a branch or tag.
    """

    name: str
    source: str
    folder: Path
    key: str
    plugin: Plugin | None = None
    spec: WeightsSpec | None = None
    moving: bool = False

    @property
    def foreign(self) -> bool:
        """Whether this is a checkpoint that others published, not a repository of ours."""
        return is_checkpoint(self.folder)

    def files(self) -> dict[str, dict[str, Any]]:
        """Return bytes and sha256 of every file: of a repository as its manifest has them, of others as they are."""
        return digests_of(self.folder) if self.foreign else check_layout(self.folder)

    def remember(self, lock: Lock) -> None:
        """Enter weights that were asked for by a branch into the lock file, once they have been verified."""
        if self.moving and self.key not in lock.weights:
            lock.add(self.key, self.source, self.files())


def resolve(name: str | Path, *, manager: PluginManager | None = None, lock: Lock | None = None) -> Resolved:
    """Return the local folder of weights, downloading them from the Hub where they are not local yet.

    A plain name is looked up among the plugins first and taken for a folder only when no plugin has it, so that
    a folder of the working directory never stands in for published weights; write ``./NAME`` for the folder.

    Parameters
    ----------
    lock
        Its entries are obeyed, and decide which commit a branch stands for; by default that of the working directory.

    Raises
    ------
    WeightsError
        The weights are not there, can not be downloaded, or are not those of the lock file.
    PluginError
        No plugin offers weights of that name, or two do.
    """
    lock = Lock.here() if lock is None else lock
    found = _resolve(str(name), isinstance(name, Path), manager or default_manager(), lock)
    if found.key in lock.weights:
        lock.check(found.key, found.source, found.files())
    return found


def _resolve(text: str, is_path: bool, manager: PluginManager, lock: Lock) -> Resolved:
    if text.startswith("hf://") and not is_path:
        return _from_hub(text, lock)
    if is_path or "://" in text:
        return _from_folder(text, lock)
    folder = Path(text).expanduser()
    if (
        text
        and folder.is_dir()
        and not any(text in (s.name, f"{p.dist}:{s.name}") for p, s in manager.specs_of(WeightsSpec))
    ):
        return _from_folder(str(folder), lock)
    if "/" in text or "\\" in text:
        raise WeightsError(f"no repository folder at {text}", todo="check the path, or see 'stzoo zoo list'")
    try:
        plugin, spec = manager.find(WeightsSpec, text)
    except UnknownNameError as error:
        todo = "see 'stzoo zoo list', or give a repository folder or hf://owner/repo@COMMIT"
        raise UnknownNameError(error.what, where=error.where, todo=todo) from error
    lock.allow(spec.name)
    if spec.source.startswith("hf://"):
        there = _from_hub(spec.source, lock, key=spec.name)
        return Resolved(spec.name, there.source, there.folder, spec.name, plugin, spec, there.moving)
    source, place = _locate(spec.source)
    return Resolved(spec.name, source, place, spec.name, plugin, spec)


def _from_folder(address: str, lock: Lock) -> Resolved:
    source, folder = _locate(address)
    lock.allow(source)
    return Resolved(folder.resolve().name, source, folder, source)


def _from_hub(text: str, lock: Lock, *, key: str = "") -> Resolved:
    """Download a commit; a branch is the commit that the lock file says, or else the one the Hub names now."""
    from stzoo.zoo.hub import at_commit, fetch, fetch_checkpoint, is_ours, parse

    asked = parse(text)
    key = key or str(asked)
    lock.allow(key)
    entry = lock.weights.get(key)
    address = parse(entry.source) if entry is not None and not asked.pinned else at_commit(asked)
    source = str(address)
    folder = fetch(source) if is_ours(address) else fetch_checkpoint(source)
    if not (is_checkpoint(folder) or (folder / MANIFEST).exists()):
        check_layout(folder)  # one of ours without its manifest: this says so
    return Resolved(key, source, folder, key, moving=not asked.pinned)


@contextmanager
def forgetting_damage(resolved: Resolved) -> Iterator[None]:
    """Remove a damaged download from the cache of the Hub's client, so that the next try downloads it again."""
    try:
        yield
    except DamagedError as error:
        if not resolved.source.startswith("hf://"):
            raise
        from stzoo.zoo.hub import forget

        forget(resolved.folder)
        todo = "the download is removed: run again; if it stays so, tell whoever published the weights"
        raise DamagedError(error.what, where=resolved.source, todo=todo) from error


def _locate(address: str) -> tuple[str, Path]:
    """Return an address without machine paths, and the local folder."""
    scheme, _, rest = address.rpartition("://")
    if scheme == "package":
        return address, package_folder(address)
    if scheme not in ("", "file"):
        raise WeightsError(
            f"'{address}' is no address of weights", todo="use hf://, file://, package://, a folder or a name"
        )
    folder = Path(unquote(rest) if scheme else address)
    return f"file://{folder.resolve().name}", folder
