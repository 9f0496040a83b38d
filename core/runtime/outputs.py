"""Outputs that are whole or absent: written beside their final name, moved there when done."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stzoo.core.errors import OutputError, UsageError
from stzoo.core.runtime.ranks import Ranks

_ELSEWHERE = "choose a folder that you may write to, on a disk with space"


def check_output(path: Path, *, overwrite: bool) -> Path:
    """Refuse, before any work is done, an output that exists or whose folder can not be written.

    Raises
    ------
    OutputError
        With what to do about it.
    """
    path = Path(path)
    try:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already", todo="use --overwrite (overwrite=True), or another name")
        whole = path.resolve()
        if whole.is_dir() and Path.cwd().is_relative_to(whole):
            raise OutputError(f"{path} is the folder you are in (or above it)", todo="choose another name")
        parent = whole.parent
        while not parent.exists():
            parent = parent.parent
        writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise OutputError(f"can not write {path}: {error.strerror}", where=error.filename, todo=_ELSEWHERE) from error
    if not writable:
        raise OutputError(f"can not write {path}", where=parent, todo=_ELSEWHERE)
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
        raise OutputError(f"can not write {path}: {error.strerror}", where=path.parent, todo=_ELSEWHERE) from error
    target = scratch / path.name
    try:
        yield target
        _replace(target, path, scratch, overwrite=overwrite)
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError) or not _concerns(error, scratch):
            raise
        raise OutputError(f"can not write {path}: {error.strerror}", where=path.parent, todo=_ELSEWHERE) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(new: Path, final: Path, scratch: Path, *, overwrite: bool) -> None:
    if not new.exists():
        raise FileNotFoundError(f"nothing was written to {new}")
    if final.exists() and not overwrite:
        raise OutputError(f"{final} was made by another program meanwhile", todo="use another name, or --overwrite")
    if not final.is_dir() or final.is_symlink():
        new.replace(final)
        return
    if not new.is_dir():
        raise OutputError(f"{final} is a folder, and the output is a file", todo="choose another name")
    aside = scratch / "replaced"  # a folder can not be replaced in one step: the old one steps aside
    final.rename(aside)
    try:
        new.replace(final)
    except OSError:
        aside.rename(final)
        raise


def _concerns(error: OSError, scratch: Path) -> bool:
    """Say whether an error is about the output, and not about an input that the block was reading."""
    return error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(scratch)


def check_alone(out: Path | None, ranks: Ranks, *, overwrite: bool = False) -> None:
    """Refuse, before any work is done, an output that only one process can write: memory (None), or no zarr store.

    Raises
    ------
    UsageError
        There are several processes.
    OutputError
        The output exists, or its folder can not be written.
    """
    if ranks.world > 1:
        what = "in memory" if out is None else f"'{out.name}'"
        raise UsageError(f"{ranks.world} processes can not write {what} together", todo="write to NAME.zarr")
    if out is not None:
        check_output(out, overwrite=overwrite)


@contextmanager
def shared_writing(out: Path, ranks: Ranks, *, overwrite: bool) -> Iterator[Path]:
    """Yield the path that all ranks write to; the first rank moves it to its place when the block ends well.

    The folder around it is hidden, seen by all ranks, and gone at the end: a place for what they tell each other.

    Raises
    ------
    OutputError
        The output exists, the disk refuses it, or a rank does not see the disk.
    LostRankError
        Another rank went away.
    """
    with ranks.together():
        if ranks.is_main:
            with writing(out, overwrite=overwrite) as path:
                ranks.broadcast(str(path))
                yield path
            return
        path = Path(ranks.broadcast(""))
        if not path.parent.is_dir():
            todo = "write to a disk that all ranks share"
            raise OutputError(f"rank {ranks.rank} does not see {path.parent}", todo=todo)
        yield path


@contextmanager
def quick_to_stop() -> Iterator[None]:
    """Let SIGTERM (a job's end, torchrun when another rank died) end the work as Ctrl-C does: nothing half stays."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
