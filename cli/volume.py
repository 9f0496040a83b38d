"""``stzoo volume``: what an imputed stack holds, planes between its sections, a picture and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from stzoo.cli.tables import echo, table
from stzoo.core.errors import UsageError

if TYPE_CHECKING:
    from stzoo.core.io.volume import Volume

SHOWN = 4
"""Genes that are drawn when none is named."""


def command(
    path: Annotated[Path, typer.Argument(metavar="VOLUME", help="The folder that 'impute STACK' wrote.")],
    genes: Annotated[str | None, typer.Option(help="Genes, comma apart; by default the most variable ones.")] = None,
    between: Annotated[int, typer.Option(min=0, help="Planes to interpolate between neighbouring sections.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Picture: measured, filled and confidence, a gene a row.")] = None,
    page: Annotated[Path | None, typer.Option(help="Interactive page (.html) that needs no network.")] = None,
    out: Annotated[Path | None, typer.Option(help="NAME.zarr: the volume with these genes and all planes.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Say what a volume holds, and draw it."""
    from stzoo.cli.check_options import parse_genes
    from stzoo.core.io.volume import Volume
    from stzoo.core.plotting.volume import plot_volume
    from stzoo.core.plotting.volume_page import write_page
    from stzoo.core.workflows.densify import densify

    wanted = parse_genes(genes)
    _check(out, plot, page, overwrite)
    volume = Volume.read(path)
    volume = volume.take_genes(wanted or volume.most_variable(SHOWN))
    if between:
        volume = densify(volume, between)
    shown = volume.stack.sections[0].genes
    if plot is not None:
        plot_volume(volume, shown, plot, overwrite=overwrite)
    if page is not None:
        write_page(volume, shown, page, overwrite=overwrite)
    if out is not None:
        volume.write(out, overwrite=overwrite)
    _print(volume)
    written = [str(output) for output in (out, plot, page) if output is not None]
    if written:
        echo(f"{', '.join(shown)}: wrote {', '.join(written)}")


def _check(out: Path | None, plot: Path | None, page: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, outputs that exist or can not be made."""
    from stzoo.core.plotting.maps import check_plot
    from stzoo.core.plotting.volume_page import check_page
    from stzoo.core.runtime.outputs import check_output

    if plot is not None:
        check_plot(plot)
    if page is not None:
        check_page(page)
    if out is not None and out.suffix != ".zarr":
        raise UsageError(f"'{out.name}' has no known suffix", todo="write to NAME.zarr")
    for output in (out, plot, page):
        if output is not None:
            check_output(output, overwrite=overwrite)


def _print(volume: Volume) -> None:
    from stzoo.core.io.volume import is_interpolated

    rows = []
    for section, z in zip(volume.stack.sections, volume.stack.z_um, strict=True):
        sure = f"{section.adata.layers['confidence'].mean():.2f}"
        kind = "interpolated" if is_interpolated(section) else f"{section.measured.mean():.0%} measured"
        rows.append([section.name, f"{z:g}", section.n_spots, kind, sure])
    echo(table(["plane", "z (µm)", "spots", "what", "mean confidence"], rows))
