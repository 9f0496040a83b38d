"""One progress bar for everything that takes long; silent where nobody looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stzoo.core.interfaces import Progress


@contextmanager
def progress_bar(description: str, *, show: bool = True) -> Iterator[Progress]:
    """Yield a callable ``(done, total)`` that draws a bar with ETA on standard error.

    Nothing is drawn when ``show`` is false or standard error is not a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
