"""``stzoo evaluate``: a protocol, its table, baselines included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo, table


def command(
    protocol: Annotated[str, typer.Argument(help="Name of a protocol, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the sections.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    work: Annotated[Path | None, typer.Option(help="Keep trained models here, so that a stopped run goes on.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the JSON file.")] = False,
) -> None:
    """Run an evaluation protocol and print its table, baselines included."""
    from stzoo.core.evaluate import evaluate, report
    from stzoo.core.output import check_output, writing
    from stzoo.core.protocol import load_protocol
    from stzoo.zoo.loading import load

    rules = load_protocol(protocol)
    if json_file is not None:
        check_output(json_file, overwrite=overwrite)
    scores = evaluate(rules, data, load=load, work=work, tell=lambda line: typer.echo(f"... {line}", err=True))
    echo(f"{rules.name}: {rules.question}")
    echo(f"train {', '.join(rules.train)}; test {', '.join(rules.test)}; log1p of counts per {rules.target:g}")
    rows = [
        [
            s.row,
            s.genes,
            s.n_genes,
            f"{s.pcc_mean:.3f}" + (f" ± {s.pcc_sd:.3f}" if s.seeds > 1 else ""),
            f"{s.pcc_median:.3f}",
            f"{s.mse:.3f}",
            s.constant or "",
            s.seeds,
        ]
        for s in sorted(scores, key=lambda s: s.genes != rules.gene_sets[0].name)
    ]
    echo(table(["", "genes", "n", "PCC mean", "PCC median", "MSE", "constant", "seeds"], rows))
    if json_file is not None:
        with writing(json_file, overwrite=overwrite) as scratch:
            scratch.write_text(json.dumps(report(rules, scores), indent=1) + "\n", encoding="utf-8")
