"""``stzoo demo``: the main job in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.defaults import WEIGHTS
from stzoo.cli.tables import echo

GENES = ["ERBB2", "COL1A1", "CD74", "KRT18"]


def command(
    data: Annotated[Path | None, typer.Option(help="Folder of her2st: the demo then runs on real tissue, C5.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write demo.h5ad and demo.png into.")] = Path("stzoo-demo"),
    model: Annotated[str, typer.Option(help="Weights to use.")] = WEIGHTS,
    overwrite: Annotated[bool, typer.Option(help="Replace what an earlier demo wrote.")] = False,
) -> None:
    """Predict four genes from an H&E image: of a synthetic tissue drawn by code, or of a real section."""
    from stzoo.cli.check_options import check_outputs
    from stzoo.core.io.read import data_source, read
    from stzoo.core.io.synthetic import synthetic_section
    from stzoo.core.runtime.progress import progress_bar
    from stzoo.core.workflows.predict import predict
    from stzoo.zoo.loading import load

    table, picture = out / "demo.h5ad", out / "demo.png"
    check_outputs(overwrite, table, picture)
    encoder = load(model)
    if data is None:
        section = synthetic_section()
        echo("a synthetic tissue, drawn by code: it shows that everything works, not how well it predicts")
    else:
        section = read(data_source("her2st::C5", data))
        echo("her2st section C5: real tissue of the patient whose sections C2-C4 the packaged weights were trained on")
    with progress_bar("predict") as progress:
        done = predict(encoder, section, GENES, progress=progress)
    done.write(table, picture, overwrite=overwrite)
    for line in done.lines():
        echo(line)
    echo(f"wrote {table} (open it with scanpy) and {picture}")
