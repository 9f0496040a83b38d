"""The bar of a training: steps, time left, loss, validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """Draws how far a run is."""

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show the steps done, of how many, and the latest metrics by name."""


@contextmanager
def training_bar(*, show: bool) -> Iterator[Bar]:
    """Yield a bar on standard error; nothing is drawn when ``show`` is false or that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[now]}")
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True) as bar:
        task = bar.add_task("train", total=None, now="")

        def draw(done: int, total: int, metrics: Mapping[str, float]) -> None:
            now = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            bar.update(task, completed=done, total=total, now=now)

        yield draw
