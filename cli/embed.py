"""``stzoo embed``: what an encoder sees at every spot of a section."""

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
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, where the files do not say.")] = None,
    image: Annotated[Path | None, typer.Option(help="Slide image to use.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Spots at a time; bounds memory.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option(help="Replace the output.")] = False,
) -> None:
    """Embed every spot of a section from its H&E image, into obsm["X_stzoo"] of an AnnData (counts are not read).

    A .zarr is written block by block, and can be shared by processes:
    torchrun --nproc-per-node 2 -m stzoo.cli.main embed ...
    """
    from stzoo.core.io.read import read
    from stzoo.core.io.write import check_suffix
    from stzoo.core.runtime.outputs import check_output, quick_to_stop
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.runtime.ranks import join_ranks
    from stzoo.core.workflows.embed import EMBEDDING, embed
    from stzoo.zoo.loading import load

    check_suffix(out)
    check_output(out, overwrite=overwrite)
    encoder = load(model, device=device)
    section = read(source, mpp=mpp, image=image, lazy=True)
    with quick_to_stop(), join_ranks() as ranks, progress_bar("embed", show=ranks.is_main) as progress:
        embed(encoder, section, out=out, batch_size=batch_size, overwrite=overwrite, ranks=ranks, progress=progress)
    if ranks.is_main:
        echo(f"{section.n_spots} spots, obsm['{EMBEDDING}'] has {encoder.embedding_dim} columns")
        echo(f"wrote {out}")
