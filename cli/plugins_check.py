"""``stzoo plugins check``: the conformance kit from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from stzoo.cli.tables import echo, table

if TYPE_CHECKING:
    from stzoo.core.conformance.checks import CheckResult


def check(
    name: Annotated[str, typer.Argument(help="A plugin (all it offers), or one model or reader; or dist:name.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the model: components=0; may be repeated.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights for a model that has none packaged: a name, a folder or hf://...")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this check alone; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a plugin keeps its contract and that what it answers can be believed; fails when a check does."""
    from stzoo.core.conformance.conformance import Conformance
    from stzoo.core.conformance.run_checks import run_checks

    given = Conformance(name, config=_config(set_), make=_maker(weights))
    found = []
    for outcome in run_checks(given, wanted=_select_checks(only)):
        found.append(outcome)
        if sys.stderr.isatty():
            typer.echo(f"\r{len(found)} checks, {outcome.subject}: {outcome.check:40}", err=True, nl=False)
    if sys.stderr.isatty():
        typer.echo("\r" + " " * 100 + "\r", err=True, nl=False)
    if as_json:
        echo(json.dumps([{**asdict(one), "seconds": round(one.seconds, 3)} for one in found], indent=1))
    else:
        _print(found)
    if any(one.state == "failed" for one in found):
        raise typer.Exit(1)


def _config(set_: list[str] | None) -> dict[str, Any] | None:
    from stzoo.core.config import override

    return override({}, set_) if set_ else None


def _maker(weights: str | None) -> Callable[[], Any] | None:
    if weights is None:
        return None
    from stzoo.zoo.loading import load

    return lambda: load(weights)


def _select_checks(only: list[str] | None) -> Callable[[str], bool]:
    from stzoo.core.conformance.run_checks import check_names
    from stzoo.core.errors import UsageError, nearest

    names = check_names()
    for name in only or ():
        if name not in names:
            raise UsageError(
                f"no check '{name}'{nearest(name, names)}", todo="see docs/conformance.md, or leave --only out"
            )
    return lambda name: not only or name in only


def _print(found: list[CheckResult]) -> None:
    rows = [[one.subject, one.check, one.state, f"{one.seconds:.1f}"] for one in found]
    echo(table(["subject", "check", "result", "seconds"], rows) if rows else "no check fits")
    for one in found:
        if one.state != "passed":
            echo(f"\n{one.subject}: {one.check} {one.state}: {one.reason}")
        if one.state == "failed":
            echo(f"  expected: {one.about}")
    count = {state: sum(one.state == state for one in found) for state in ("passed", "failed", "skipped")}
    echo("\n" + ", ".join(f"{number} {state}" for state, number in count.items()))
