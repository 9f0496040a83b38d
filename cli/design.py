"""``stzoo design``: which spots to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo


def command(
    source: Annotated[str, typer.Argument(metavar="SECTION", help="PATH or PATH::SECTION; counts are not used.")],
    out: Annotated[Path, typer.Option(help="Text file to write: one barcode a line.")],
    share: Annotated[float, typer.Option(help="Share of the spots; 1/4, 1/9 ... of a lattice is one phase.")] = 0.25,
    bin_um: Annotated[float | None, typer.Option(help="Sum into square bins of this size (µm) first.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the chosen spots.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first spot of an even spread.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Choose a share of the spots that covers a section evenly, from positions alone."""
    from stzoo.cli.outputs import check_outputs
    from stzoo.core.designing import design, write_barcodes
    from stzoo.core.plot import plot_chosen
    from stzoo.core.reading import read

    check_outputs(overwrite, out, plot)
    section = read(source, mpp=mpp, bin_um=bin_um)
    found = design(section, share, seed=seed)
    if plot is not None:
        plot_chosen(section, found.chosen, plot, title=f"{section.name}: {found.how}", overwrite=overwrite)
    write_barcodes(section, found.chosen, out, overwrite=overwrite)
    echo(f"{int(found.chosen.sum())} of {section.n_spots} spots ({found.chosen.mean():.1%}): {found.how}")
    echo(f"wrote {out}" + (f" and {plot}" if plot else ""))
    echo(f"use it: stzoo impute SECTION --measured file:{out}")
