"""``stzoo align``: lay one section upon another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.defaults import ALIGNER
from stzoo.cli.tables import echo


def command(
    moving: Annotated[str, typer.Argument(metavar="MOVING", help="PATH or PATH::SECTION of the section to move.")],
    fixed: Annotated[str, typer.Argument(metavar="FIXED", help="PATH or PATH::SECTION of the section that stays.")],
    out: Annotated[Path, typer.Option(help="Transform to write, NAME.zarr.")],
    model: Annotated[str, typer.Option(help="An aligner of 'plugins list'.")] = ALIGNER,
    plot: Annotated[Path | None, typer.Option(help="Picture: outlines and spots before and after.")] = None,
    report: Annotated[Path | None, typer.Option(help="The quality report as JSON.")] = None,
    moved: Annotated[
        Path | None, typer.Option(help="NAME.h5ad or NAME.zarr: MOVING with its spots in the frame of FIXED (µm).")
    ] = None,
    both_ways: Annotated[
        bool, typer.Option("--both-ways", help="Align back too, and say how far that misses.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the model: flips=false; may be repeated.")
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the method.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Find the map from micrometres of MOVING to micrometres of FIXED, and say how good it is."""
    from stzoo.cli.check_options import check_outputs
    from stzoo.core.config import override
    from stzoo.core.errors import UsageError
    from stzoo.core.io.read import read
    from stzoo.core.io.write import check_suffix
    from stzoo.core.registry import model as make
    from stzoo.core.runtime.outputs import check_output
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.workflows.align_pair import align

    if out.suffix != ".zarr":
        raise UsageError(f"'{out.name}' is no name for a transform", todo="write to NAME.zarr")
    check_outputs(overwrite, out, plot)
    if report:
        check_output(report, overwrite=overwrite)
    if moved:
        check_suffix(moved)
        check_output(moved, overwrite=overwrite)
    aligner = make(model, override({}, set_ or []), role="aligner", seed=seed)
    pair = [read(source, mpp=mpp) for source in (moving, fixed)]
    with progress_bar("align") as progress:
        done = align(aligner, *pair, both_ways=both_ways, progress=progress)
    done.write(out, plot=plot, report=report, moved=moved, overwrite=overwrite)
    for line in done.lines():
        echo(line)
    echo("wrote " + ", ".join(str(path) for path in (out, plot, report, moved) if path))
