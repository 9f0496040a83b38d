"""Plain tables for terminals and pipes (rich would cost start-up time here)."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def echo(text: str) -> None:
    """Print a line to standard output."""
    typer.echo(text)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return left-aligned columns under a rule; numbers keep the format they come in."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])
