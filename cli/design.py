"""``stzoo design``: which spots to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo


def command(
    source: Annotated[str, typer.Argument(metavar="SECTION", help="PATH, PATH::SECTION or a stack file (.yaml).")],
    out: Annotated[Path, typer.Option(help="Text file to write, one barcode a line; for a stack a folder.")],
    share: Annotated[float, typer.Option(help="Share of the spots; 1/4, 1/9 ... of a lattice is one phase.")] = 0.25,
    central: Annotated[
        str | None, typer.Option(help="Stack: the section to measure whole; by default the middle.")
    ] = None,
    bin_um: Annotated[float | None, typer.Option(help="Sum into square bins of this size (µm) first.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the chosen spots.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first spot of an even spread.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Choose a share of the spots that covers a section evenly, from positions alone; counts are not used.

    Of a stack, the central section is measured whole and a share of every other one.
    """
    from stzoo.cli.check_options import check_outputs, refuse_options
    from stzoo.core.io.read import read
    from stzoo.core.io.stack_file import is_stack_file
    from stzoo.core.plotting.maps import plot_chosen
    from stzoo.core.workflows.design import design, write_barcodes

    check_outputs(overwrite, out, plot)
    if is_stack_file(source):
        refuse_options("a stack", bin_um=bin_um, plot=plot, mpp=mpp)
        _design_stack(Path(source), out, share, central, seed, overwrite)
        return
    refuse_options("a single section", central=central)
    section = read(source, mpp=mpp, bin_um=bin_um)
    found = design(section, share, seed=seed)
    if plot is not None:
        plot_chosen(section, found.chosen, plot, title=f"{section.name}: {found.how}", overwrite=overwrite)
    write_barcodes(section, found.chosen, out, overwrite=overwrite)
    echo(f"{int(found.chosen.sum())} of {section.n_spots} spots ({found.chosen.mean():.1%}): {found.how}")
    echo(f"wrote {out}" + (f" and {plot}" if plot else ""))
    echo(f"use it: stzoo impute SECTION --measured file:{out}")


def _design_stack(path: Path, out: Path, share: float, central: str | None, seed: int, overwrite: bool) -> None:
    from stzoo.core.io.read_stack import open_stack
    from stzoo.core.io.stack_file import load_stack_file
    from stzoo.core.workflows.design_stack import design_stack

    found = design_stack(open_stack(load_stack_file(path)), share, central=central, seed=seed)
    stack = found.write(out, overwrite=overwrite)
    for line in found.lines():
        echo(line)
    echo(f"wrote {stack} and a list of barcodes for each sparse section")
    echo(f"use it: stzoo impute {stack} --out FOLDER")
