"""``stzoo stack``: stack files, made from a folder of sections and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make and check stack files.")


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A path with several sections.")],
    spacing_um: Annotated[float, typer.Option(help="Distance between neighbouring sections, µm; not in the data.")],
    out: Annotated[Path, typer.Option(help="Stack file to write.")] = Path("stack.yaml"),
    sections: Annotated[
        str | None, typer.Option(help="Sections in order of depth, comma apart; by default all.")
    ] = None,
    central: Annotated[str | None, typer.Option(help="The section measured whole; by default the middle one.")] = None,
    share: Annotated[float, typer.Option(help="Share of the spots of the others: 0.25 is grid:2.")] = 0.25,
    overwrite: Annotated[bool, typer.Option(help="Replace the output.")] = False,
) -> None:
    """Write a stack file for the sections of a folder, the central one measured whole."""
    from stzoo.cli.check_options import check_stack_suffix, parse_names
    from stzoo.core.io.stack_file import new_stack_file, write_stack_file
    from stzoo.core.runtime.outputs import check_output

    check_stack_suffix(out)
    check_output(out, overwrite=overwrite)
    names = parse_names(sections)
    file = new_stack_file(folder, out, spacing_um=spacing_um, names=names, central=central, share=share)
    write_stack_file(file, out, overwrite=overwrite)
    echo(f"wrote {out}: " + ", ".join(f"{entry.name} ({entry.measured})" for entry in file.sections))
    echo(f"put the sections in order of depth there, then: stzoo stack check {out}")


@app.command()
def check(path: Annotated[Path, typer.Argument(metavar="STACK", help="A stack file.")]) -> None:
    """Read a stack file and every section it names, and print what is there."""
    from stzoo.core.io.read_stack import open_stack
    from stzoo.core.io.stack_file import load_stack_file
    from stzoo.core.workflows.align_stack import central_section

    opened = open_stack(load_stack_file(path))
    rows = []
    for section, z in zip(opened.stack.sections, opened.stack.z_um, strict=True):
        seen, slide = int(section.measured.sum()), section.slide
        rows.append(
            [
                section.name,
                section.n_spots,
                f"{seen} ({seen / section.n_spots:.0%})",
                section.n_genes,
                "-" if slide is None else f"{slide.width} x {slide.height}",
                "-" if section.mpp is None else f"{section.mpp:.3g}",
                f"{z:g}",
            ]
        )
    echo(table(["section", "spots", "measured", "genes", "image (px)", "µm/px", "z (µm)"], rows))
    echo(f"{opened.file.sample}: {len(opened.stack.genes)} genes in every section")
    central = opened.stack.sections[central_section(opened.stack)]
    if central.measured.all():
        echo(f"central: {central.name}, measured at every spot")
    else:
        echo(f"note: no section is measured at every spot ({central.name} has most): methods like st-dai need one")
