"""One progress bar for everything that takes long; silent where nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""


@contextmanager
def progress_bar(description: str, *, show: bool = True) -> Iterator[Progress]:
    """Yield a callable ``(done, total)`` that draws a bar with ETA on standard error.

    Nothing is drawn when ``show`` is false or standard error is not a terminal.
    """
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(
        *columns, console=console, disable=not (show and console.is_terminal), transient=True
    ) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
