"""``stzoo impute``: fill the spots of a section, or of a stack, that were not measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from stzoo.cli.defaults import ALIGNER, IMPUTER
from stzoo.cli.tables import echo

if TYPE_CHECKING:
    from stzoo.core.imputer import Imputer


def command(
    source: Annotated[str, typer.Argument(metavar="SECTION", help="PATH, PATH::SECTION or a stack file (.yaml).")],
    out: Annotated[Path, typer.Option(help="NAME.h5ad or NAME.zarr to write; for a stack a folder.")],
    model: Annotated[str, typer.Option(help="An imputer of 'plugins list'.")] = IMPUTER,
    measured: Annotated[
        str | None,
        typer.Option(help="Measured spots: all (default), grid:2, grid:2+1,0, random:0.25+SEED, obs:COLUMN, file:TXT."),
    ] = None,
    genes: Annotated[str | None, typer.Option(help="Genes, comma apart; by default all.")] = None,
    aligner: Annotated[
        str | None, typer.Option(help=f"Stack: an aligner of 'plugins list', or none. By default {ALIGNER}.")
    ] = None,
    chain: Annotated[
        bool, typer.Option(help="Stack: align each section to its neighbour, not to the full one directly.")
    ] = False,
    export_sections: Annotated[bool, typer.Option(help="Stack: write NAME.h5ad for each section too.")] = False,
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
    """Fill every spot outside the measured ones, whose counts are hidden from the method.

    A stack file says itself which spots are measured; its sections are aligned and filled together. A .zarr and a stack
    can be shared by processes: torchrun --nproc-per-node 2 -m stzoo.cli.main impute ...
    """
    from stzoo.cli.check_options import check_folder, check_outputs, parse_genes, refuse_options
    from stzoo.core.config import override
    from stzoo.core.io.read import read
    from stzoo.core.io.stack_file import is_stack_file
    from stzoo.core.io.write import check_suffix
    from stzoo.core.registry import model as make
    from stzoo.core.runtime.outputs import quick_to_stop
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.runtime.ranks import join_ranks
    from stzoo.core.workflows.impute import impute, require_truth

    wanted, shown = parse_genes(genes), parse_genes(show)
    imputer = make(model, override({}, set_ or []), role="imputer", seed=seed)
    if is_stack_file(source):
        refuse_options("a stack", measured=measured, bin_um=bin_um, plot=plot, show=show, mpp=mpp)
        refuse_options("a stack", reliability=reliability)
        check_folder(out)
        check_outputs(overwrite, out)
        _impute_stack(imputer, Path(source), out, wanted, aligner or ALIGNER, chain, export_sections, overwrite)
        return
    refuse_options("a single section", aligner=aligner, chain=chain, export_sections=export_sections)
    check_suffix(out)
    for picture in (plot, reliability):
        check_outputs(overwrite, out, picture)
    section = read(source, mpp=mpp, bin_um=bin_um)
    section.gene_index(shown or [])
    if reliability:
        require_truth(section, measured or "all")
    with quick_to_stop(), join_ranks() as ranks, progress_bar("impute", show=ranks.is_main) as progress:
        done = impute(
            imputer,
            section,
            rule=measured or "all",
            genes=wanted,
            out=out,
            plot=plot,
            reliability=reliability,
            show=shown,
            overwrite=overwrite,
            ranks=ranks,
            progress=progress,
        )
    if ranks.is_main:
        for line in done.lines():
            echo(line)
        echo("wrote " + ", ".join(str(path) for path in (out, plot, reliability) if path))


def _impute_stack(
    imputer: Imputer,
    path: Path,
    out: Path,
    genes: list[str] | None,
    aligner: str,
    chain: bool,
    export: bool,
    overwrite: bool,
) -> None:
    from stzoo.core.io.read_stack import open_stack
    from stzoo.core.io.stack_file import load_stack_file
    from stzoo.core.registry import model as make
    from stzoo.core.runtime.outputs import quick_to_stop
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.runtime.ranks import join_ranks
    from stzoo.core.workflows.impute_stack import impute_stack

    moving = None if aligner == "none" else make(aligner, role="aligner", seed=imputer.seed)
    opened = open_stack(load_stack_file(path))
    if imputer.needs_whole_section:
        opened.require_whole()
    with quick_to_stop(), join_ranks() as ranks, progress_bar("align and impute", show=ranks.is_main) as progress:
        done = impute_stack(
            imputer,
            opened.stack,
            out=out,
            export_sections=export,
            overwrite=overwrite,
            ranks=ranks,
            sample=opened.file.sample,
            aligner=moving,
            chain=chain,
            genes=genes,
            truth=opened.sections,
            progress=progress,
        )
    if ranks.is_main:
        for line in done.lines():
            echo(line)
        echo(f"wrote {out}" + (" with a .h5ad file for each section" if export else ""))
        echo(f"look at it: stzoo volume {out} --plot stack.png --page stack.html")
