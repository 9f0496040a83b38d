"""``stzoo data``: what is in a path, and how to turn it into .h5ad or zarr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from stzoo.cli.tables import echo, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Inspect and convert sections.")

Format = Annotated[str | None, typer.Option(help="Reader to use where more than one recognises the path.")]


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(metavar="PATH", help="A path, or PATH::SECTION.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    format: Format = None,
) -> None:
    """Say what was recognised: format, and spots, genes, µm/px and image of each section."""
    from stzoo.core.io.read import inspect as look

    found = look(source, format=format)
    if as_json:
        echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        _print(found)
    if any("error" in section for section in found["sections"]):
        raise typer.Exit(1)


def _print(found: dict[str, Any]) -> None:
    echo(f"format: {found['format']}")
    rows = [
        [
            s["name"],
            s["spots"],
            s["genes"],
            "-" if s["mpp"] is None else f"{s['mpp']:.3g}",
            "-" if s["image"] is None else f"{s['image'][0]} x {s['image'][1]}",
            s["counts"],
            ", ".join(s["missing"]) or "-",
        ]
        for s in found["sections"]
        if "error" not in s
    ]
    if rows:
        echo(table(["section", "spots", "genes", "mpp (µm/px)", "image (px)", "counts", "missing"], rows))
    for section in found["sections"]:
        for text in section.get("notes", []):
            echo(f"note: {section['name']}: {text}")
        if "error" in section:
            typer.echo(f"\n{section['name']} can not be read: {section['error']}", err=True)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="PATH", help="A path, or PATH::SECTION.")],
    out: Annotated[Path, typer.Argument(help="NAME.h5ad or NAME.zarr.")],
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    image: Annotated[Path | None, typer.Option(help="Slide image to use.")] = None,
    bin_um: Annotated[float | None, typer.Option(help="Sum into square bins of this size (µm).")] = None,
    format: Format = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the output.")] = False,
) -> None:
    """Write a section as .h5ad or zarr that scanpy and squidpy open."""
    from stzoo.core.io.read import read
    from stzoo.core.io.write import write
    from stzoo.core.runtime.outputs import check_output

    check_output(out, overwrite=overwrite)
    section = read(source, mpp=mpp, image=image, bin_um=bin_um, format=format)
    write(section, out, overwrite=overwrite)
    echo(f"wrote {out}: {section.n_spots} spots x {section.n_genes} genes")
