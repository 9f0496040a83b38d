"""``stzoo zoo``: the weights that exist, and whether they are whole."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from stzoo.cli.tables import echo, table
from stzoo.zoo.catalogue import catalogue
from stzoo.zoo.loading import resolve

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, describe and verify weights.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A name of 'zoo list', a folder, or hf://owner/repo@COMMIT.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the weights that installed plugins offer."""
    rows = catalogue()
    if as_json:
        echo(json.dumps(rows, indent=1))
        return
    head = ["weights", "model", "tissue", "size", "µm/px", "license", "local", ""]
    cells = [
        [
            r["name"],
            r["model"],
            r["tissue"],
            f"{r['size_bytes'] / 1e6:.1f} MB",
            f"{r['mpp']:g}",
            r["license"],
            "yes" if r["local"] else "no",
            r["summary"],
        ]
        for r in rows
    ]
    echo(table(head, cells) if cells else "no weights are offered by the installed plugins")


@app.command()
def info(name: Name) -> None:
    """Show the model card of some weights."""
    folder = resolve(name).folder
    from stzoo.core.repository import CARD, verify

    verify(folder)
    echo((folder / CARD).read_text(encoding="utf-8"))


@app.command()
def verify(name: Name) -> None:
    """Check every file of some weights against its digest."""
    from stzoo.core.repository import verify as check

    resolved = resolve(name)
    for file, digest in check(resolved.folder).items():
        echo(f"ok  {digest[:16]}  {file}")
