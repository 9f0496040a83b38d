"""``stzoo predict``: expression of a section from its H&E image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.defaults import WEIGHTS
from stzoo.cli.tables import echo


def command(
    source: Annotated[str, typer.Argument(metavar="SECTION", help="PATH or PATH::SECTION.")],
    out: Annotated[Path, typer.Option(help="NAME.h5ad or NAME.zarr to write.")],
    model: Annotated[str, typer.Option(help="Weights: a name of 'zoo list', a folder, or hf://...")] = WEIGHTS,
    genes: Annotated[str | None, typer.Option(help="Genes, comma apart; by default all that the head knows.")] = None,
    head: Annotated[
        str | None, typer.Option(help="ridge, mlp, retrieval or zero-shot; by default the model's first.")
    ] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Measured section to fit the head on (can be repeated).")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture: H&E, measured and predicted maps.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    image: Annotated[Path | None, typer.Option(help="Slide image to use.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Spots at a time; bounds memory.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    int8: Annotated[
        bool, typer.Option(help="Compute in 8-bit integers on the CPU: faster, not quite the same.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the outputs.")] = False,
) -> None:
    """Predict gene expression of a section from its H&E image; counts, where there are, are only compared.

    A .zarr is written block by block, so that memory does not grow with the slide or the genes, and can be shared by
    processes: torchrun --nproc-per-node 2 -m stzoo.cli.main predict ...
    """
    from stzoo.cli.check_options import check_outputs, parse_genes
    from stzoo.core.io.read import read
    from stzoo.core.io.write import check_suffix
    from stzoo.core.runtime.outputs import quick_to_stop
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.runtime.ranks import join_ranks
    from stzoo.core.workflows.predict import predict
    from stzoo.zoo.loading import load

    wanted = parse_genes(genes)
    check_suffix(out)
    check_outputs(overwrite, out, plot)
    encoder = load(model, device=device)
    if int8:
        encoder.quantise()
    section = read(source, mpp=mpp, image=image, lazy=True)
    given = [read(one) for one in reference or []]
    with quick_to_stop(), join_ranks() as ranks, progress_bar("predict", show=ranks.is_main) as progress:
        done = predict(
            encoder,
            section,
            wanted,
            head=head,
            reference=given,
            out=out,
            plot=plot,
            batch_size=batch_size,
            overwrite=overwrite,
            ranks=ranks,
            progress=progress,
        )
    if ranks.is_main:
        for line in done.lines():
            echo(line)
        echo(f"wrote {out}" + (f" and {plot}" if plot else ""))
