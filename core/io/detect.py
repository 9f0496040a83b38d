"""Which reader a path belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stzoo.core.discovery.manager import PluginManager, default_manager, resolve
from stzoo.core.errors import DataError, PluginError, nearest
from stzoo.core.reader import Reader
from stzoo.core.specs import ReaderSpec


def find_reader(path: Path, format: str | None = None, *, manager: PluginManager | None = None) -> Reader:
    """Return the one reader that recognises a path.

    Parameters
    ----------
    path
        A file or folder.
    format
        Name of the reader to use without asking the others.
    manager
        The plugins; by default those of the environment.

    Raises
    ------
    DataError
        The path does not exist or may not be read, or not exactly one reader recognises it.
    PluginError
        There is no reader called ``format``.
    """
    _require_readable(path)
    manager = manager or default_manager()
    if format is not None:
        return _reader(manager.find(ReaderSpec, format)[1])
    specs = [spec for _, spec in manager.specs_of(ReaderSpec)]
    found, ailing = _recognising(path, specs)
    if len(found) == 1:
        return _reader(found[0])
    if found:
        both = " and ".join(f"'{spec.name}'" for spec in found)
        raise DataError(
            f"more than one reader recognises this: {both}",
            where=path,
            todo=f"choose one: --format {found[0].name}, or stzoo.read(..., format='{found[0].name}')",
        )
    known = "\n         ".join(f"{spec.name}: {spec.summary}" for spec in specs)
    broken = f"\n         (could not be asked: {'; '.join(ailing)})" if ailing else ""
    raise DataError(
        "no reader recognises this",
        where=path,
        todo=_elsewhere(path, specs) or f"give one of\n         {known or 'none: no reader is installed'}{broken}",
    )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses (permissions, a disk that fails) into a message that names the file.

    Raises
    ------
    DataError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"can not read this: {error.strerror or error}",
            where=error.filename or path,
            todo="check the permissions, and that the folder is complete",
        ) from error


def _require_readable(path: Path) -> None:
    try:
        path.stat()
        siblings = None
    except (FileNotFoundError, NotADirectoryError):
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise DataError(f"can not read {path}: {error.strerror}", todo="check the path and its permissions") from error
    if siblings is not None:
        raise DataError(f"no such file or folder: {path}{nearest(path.name, siblings)}", todo="check the path")


def _recognising(path: Path, specs: Iterable[ReaderSpec]) -> tuple[list[ReaderSpec], list[str]]:
    found, ailing = [], []
    for spec in specs:
        try:
            with disk_errors(path):
                if _reader(spec).recognises(path):
                    found.append(spec)
        except PluginError as error:  # a reader that can not be imported costs only itself
            ailing.append(f"{spec.name}: {error.what}")
    return found, ailing


def _elsewhere(path: Path, specs: list[ReaderSpec]) -> str | None:
    """Return a hint at the folder above, or those below, that a reader recognises."""
    for parent in path.resolve().parents[:2]:
        found = _recognising(parent, specs)[0]
        if found:
            return f"it is part of a folder in the format '{found[0].name}': give {parent}"
    if not path.is_dir():
        return None
    below = [child.name for child in sorted(path.iterdir())[:50] if child.is_dir() and _recognising(child, specs)[0]]
    return f"give a folder in it: {', '.join(below[:8])}" if below else None


def _reader(spec: ReaderSpec) -> Reader:
    reader: Reader = resolve(spec.target)()
    return reader
