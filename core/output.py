"""Outputs that are whole or absent: written beside their final name, moved there when done."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stzoo.core.errors import OutputError


def check_output(path: Path, *, overwrite: bool) -> Path:
    """Refuse, before any work is done, an output that exists or whose folder can not be written.

    Raises
    ------
    OutputError
        With what to do about it.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already", todo="use --overwrite (overwrite=True), or another name")
    parent = path.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"can not write {path}", where=parent, todo="choose a folder that you may write to")
    return path


@contextmanager
def writing(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffix) and move it there when the block ends well.

    The block may make a file or a folder of that name. When it raises, whatever was written is removed, and
    what stood at ``path`` before is untouched.

    Raises
    ------
    OutputError
        The output exists, or the disk refuses it (full, read-only).
    """
    path = check_output(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"can not write {path}: {error.strerror}", where=path.parent) from error
    target = scratch / path.name
    try:
        yield target
        _replace(target, path, scratch)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno is None:
            raise
        raise OutputError(f"can not write {path}: {error.strerror}", where=path.parent) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(new: Path, final: Path, scratch: Path) -> None:
    if final.is_dir() and not final.is_symlink():
        final.rename(scratch / "replaced")  # a folder can not be replaced in one step: the old one steps aside
    new.replace(final)
