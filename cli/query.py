"""``stzoo query``: where sets of genes are high, from the image alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.defaults import WEIGHTS
from stzoo.cli.tables import echo
from stzoo.core.errors import UsageError


def command(
    source: Annotated[str, typer.Argument(metavar="SECTION", help="PATH or PATH::SECTION.")],
    out: Annotated[Path, typer.Option(help="NAME.h5ad or NAME.zarr to write.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help='A set: "NAME=GENE,GENE"; may be repeated.')] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="A single gene, any symbol; may be repeated.")] = None,
    model: Annotated[str, typer.Option(help="Weights: a name of 'zoo list', a folder, or hf://...")] = WEIGHTS,
    plot: Annotated[Path | None, typer.Option(help="Picture: H&E, measured and predicted maps.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    image: Annotated[Path | None, typer.Option(help="Slide image to use.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Spots at a time; bounds memory.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Score sets of genes at every spot from the H&E image; counts, where there are, are only compared."""
    from stzoo.cli.check_options import check_outputs
    from stzoo.core.io.read import read
    from stzoo.core.io.write import check_suffix
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.workflows.query import query
    from stzoo.zoo.loading import load

    sets = dict(_parse_set(text) for text in set_ or []) | {gene.strip(): [gene.strip()] for gene in symbol or []}
    check_suffix(out)
    check_outputs(overwrite, out, plot)
    encoder = load(model, device=device)
    section = read(source, mpp=mpp, image=image)
    with progress_bar("query") as progress:
        found = query(encoder, section, sets, batch_size=batch_size, progress=progress)
    found.write(out, plot, overwrite=overwrite)
    for line in found.lines():
        echo(line)
    echo(f"wrote {out}" + (f" and {plot}" if plot else ""))


def _parse_set(text: str) -> tuple[str, list[str]]:
    """Return name and genes of ``NAME=GENE,GENE``."""
    name, mark, rest = text.partition("=")
    genes = list(dict.fromkeys(gene.strip() for gene in rest.split(",") if gene.strip()))
    if not mark or not name.strip() or not genes:
        raise UsageError(f"'{text}' is no set of genes", todo='write --set "T cells=CD3D,CD3E,CD2"')
    return name.strip(), genes
