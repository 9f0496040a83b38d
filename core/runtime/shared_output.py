"""An output that several processes write together: whole or absent, whoever is lost on the way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stzoo.core.errors import OutputError
from stzoo.core.runtime.outputs import writing
from stzoo.core.runtime.ranks import Ranks


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
                ranks.same(str(path))
                yield path
            return
        path = Path(ranks.same(""))
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
