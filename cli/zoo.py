"""``stzoo zoo``: the weights that exist, and whether they are whole."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from stzoo.cli.app import new_app
from stzoo.cli.tables import echo, table
from stzoo.zoo.catalogue import catalogue

app = new_app("List, describe and verify weights.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A name of 'zoo list', a folder, or hf://owner/repo@COMMIT.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the weights that installed plugins offer, and whether they are on this machine."""
    entries = catalogue()
    if as_json:
        echo(json.dumps([entry.as_dict() for entry in entries], indent=1, ensure_ascii=False))
        return
    rows = [
        [
            entry.spec.name,
            entry.spec.model,
            entry.spec.tissue or "-",
            f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "-",
            f"{entry.spec.mpp:g}" if entry.spec.mpp else "-",
            entry.spec.license,
            entry.state,
            entry.spec.summary,
        ]
        for entry in entries
    ]
    head = ["weights", "model", "tissue", "size", "µm/px", "license", "state", ""]
    echo(table(head, rows) if rows else "no weights are offered by the installed plugins")


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Verify some weights, and show what they are and their model card."""
    from stzoo.core.repository import CARD, open_repository
    from stzoo.zoo.loading import forgetting_damage, resolve

    resolved = resolve(name)
    with forgetting_damage(resolved), open_repository(resolved.folder) as repository:
        facts = {
            "name": resolved.name,
            "source": resolved.source,
            "model": repository.method,
            "format_version": repository.format_version,
            "dtype": repository.dtype,
            "sha256": repository.sha256,
        }
        card = (repository.folder / CARD).read_text(encoding="utf-8") if (repository.folder / CARD).is_file() else ""
    if as_json:
        echo(json.dumps({**facts, "config": repository.config, "card": card}, indent=1, ensure_ascii=False))
        return
    echo("\n".join(f"{key + ':':<16}{value}" for key, value in facts.items()))
    echo(f"\n{card.rstrip() or '(no model card)'}")


@app.command()
def verify(name: Name) -> None:
    """Check every file of some weights against its digest; the exit code is 1 when one differs."""
    from stzoo.core.repository import verify as check
    from stzoo.zoo.loading import forgetting_damage, resolve

    resolved = resolve(name)
    with forgetting_damage(resolved):
        digests = check(resolved.folder)
    for file, digest in digests.items():
        echo(f"ok  {digest}  {file}")
