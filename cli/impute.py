"""``stzoo impute``: fill the spots of a section that were not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo


def command(
    source: Annotated[str, typer.Argument(metavar="SECTION", help="PATH or PATH::SECTION.")],
    out: Annotated[Path, typer.Option(help="NAME.h5ad or NAME.zarr to write.")],
    model: Annotated[str, typer.Option(help="An imputer of 'plugins list'.")] = "kriging",
    measured: Annotated[
        str, typer.Option(help="Measured spots: all, grid:2, grid:2+1,0, random:0.25+SEED, obs:COLUMN, file:TXT.")
    ] = "all",
    genes: Annotated[str | None, typer.Option(help="Genes, comma apart; by default all.")] = None,
    bin_um: Annotated[float | None, typer.Option(help="Sum into square bins of this size (µm) first.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture: measured, imputed and confidence maps.")] = None,
    show: Annotated[str | None, typer.Option(help="Genes of the picture; by default the most variable ones.")] = None,
    reliability: Annotated[
        Path | None, typer.Option(help="Picture: confidence against what came true at hidden spots.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the model: components=0; may be repeated.")
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the method.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Fill every spot outside the measured ones, whose counts are hidden from the method."""
    from stzoo.cli.outputs import check_outputs, check_suffix, parse_genes
    from stzoo.core.config import override
    from stzoo.core.imputing import impute_section, require_truth
    from stzoo.core.progress import progress_bar
    from stzoo.core.reading import read
    from stzoo.core.registry import model as make

    wanted, shown = parse_genes(genes), parse_genes(show)
    check_suffix(out)
    for picture in (plot, reliability):
        check_outputs(overwrite, out, picture)
    imputer = make(model, override({}, set_ or []), role="imputer", seed=seed)
    section = read(source, mpp=mpp, bin_um=bin_um)
    section.gene_index(shown or [])
    if reliability:
        require_truth(section, measured)
    with progress_bar("impute") as progress:
        done = impute_section(imputer, section, rule=measured, genes=wanted, progress=progress)
    done.write(out, plot, reliability, show=shown, overwrite=overwrite)
    for line in done.lines():
        echo(line)
    echo("wrote " + ", ".join(str(path) for path in (out, plot, reliability) if path))
