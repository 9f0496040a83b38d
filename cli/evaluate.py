"""``stzoo evaluate``: a protocol, its table, baselines included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from stzoo.cli.tables import echo, table
from stzoo.core.errors import UsageError


def command(
    protocol: Annotated[str, typer.Argument(help="Name of a protocol, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the sections.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores as JSON.")] = None,
    work: Annotated[Path | None, typer.Option(help="Keep trained models here, so that a stopped run goes on.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model of 'plugins list' to score as well (can be repeated).")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Other seeds than the protocol's: 0,1")] = "",
    overwrite: Annotated[bool, typer.Option(help="Replace the JSON file.")] = False,
) -> None:
    """Run an evaluation protocol and print its table, baselines included."""
    from stzoo.core.evaluation.load_protocol import load_protocol, with_models
    from stzoo.core.evaluation.run import lines, report
    from stzoo.core.runtime.outputs import check_output, writing
    from stzoo.zoo.evaluating import evaluate

    rules = with_models(load_protocol(protocol), model or [])
    rules.seeds = _numbers(seeds) or rules.seeds
    if json_file is not None:
        check_output(json_file, overwrite=overwrite)
    result = evaluate(rules, data, work=work, tell=lambda line: typer.echo(f"... {line}", err=True))
    found = report(rules, result)
    if json_file is not None:
        with writing(json_file, overwrite=overwrite) as scratch:
            scratch.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    echo(f"{rules.name}: {rules.question}")
    echo(result.conditions)
    for note in result.notes:
        echo(f"note: {note}")
    echo(table(*lines(found)))
    for row, reason in result.not_run.items():
        echo(f"not run: {row}: {reason}")
    if rules.warning:
        echo(f"\nWarning. {rules.warning.strip()}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"--seeds is '{text}', expected whole numbers", todo="write --seeds 0,1,2") from error
