"""``stzoo plugins``: what is installed, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from stzoo.cli.app import new_app
from stzoo.cli.plugins_check import check
from stzoo.cli.tables import echo, table
from stzoo.core.errors import PluginError
from stzoo.core.plugins import DISABLE_VARIABLE, Plugin, PluginHost, default_host
from stzoo.core.records import ModelSpec, ProtocolSpec, ReaderSpec, WeightsSpec

app = new_app("List the installed plugins, and what is wrong with them.")

_KINDS = ((ModelSpec, "models"), (WeightsSpec, "weights"), (ReaderSpec, "readers"), (ProtocolSpec, "protocols"))

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    as_json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when anything is wrong with a plugin.")] = False,
) -> None:
    """List every plugin with its state and what it offers."""
    host = default_host()
    complaints = _complaints(host)
    if as_json:
        echo(json.dumps([_plain(plugin) for plugin in host.plugins], indent=1, ensure_ascii=False))
    else:
        rows = [[p.qualified, p.version, p.state, p.error or _offers(p)] for p in host.plugins]
        echo(table(["plugin", "version", "state", "offers"], rows) if rows else "no plugins are installed")
        models = [[spec.role, spec.name, spec.summary] for _, spec in host.of(ModelSpec)]
        if models:
            echo("\n" + table(["role", "model", ""], sorted(models)))
    for complaint in complaints:
        typer.echo(f"warning: {complaint}", err=True)
    ailing = [p for p in host.plugins if p.state in ("broken", "incompatible")]
    if strict and (ailing or complaints):
        what = [f"{p.qualified} is {p.state}: {p.error}" for p in ailing] + complaints
        raise PluginError("; ".join(what), todo=f"see 'stzoo plugins info {ailing[0].qualified}'" if ailing else None)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Name, or dist:name.")],
    as_json: Json = False,
) -> None:
    """Show one plugin: its state, its records, and the traceback when it is broken."""
    plugin = default_host().plugin(name)
    if as_json:
        echo(json.dumps(_plain(plugin), indent=1, ensure_ascii=False))
        return
    echo(f"{plugin.qualified} {plugin.version}: {plugin.state}")
    echo(f"  module: {plugin.module} ({plugin.seconds:.2f} s to load)")
    if plugin.error:
        echo(f"  error: {plugin.error}")
    for record in plugin.records:
        echo(f"\n{type(record).__name__.removesuffix('Spec').lower()} {record.name}")
        facts = {k: v for k, v in asdict(record).items() if k != "name" and v}
        echo("\n".join(f"  {key}: {value}" for key, value in facts.items()))
    if plugin.trace != plugin.error:
        echo(f"\n{plugin.trace.rstrip()}")


app.command("check")(check)


def _complaints(host: PluginHost) -> list[str]:
    complaints = [f"{DISABLE_VARIABLE} names '{name}', and no plugin is called that" for name in host.unknown_disabled]
    for kind, what in _KINDS:
        names: dict[str, list[str]] = {}
        for plugin, record in host.of(kind):
            names.setdefault(record.name, []).append(f"{plugin.dist}:{record.name}")
        complaints += [
            f"{len(full)} plugins offer the {_singular(what)} '{name}': write {' or '.join(full)}"
            for name, full in names.items()
            if len(full) > 1
        ]
    return complaints


def _plain(plugin: Plugin) -> dict[str, Any]:
    records = [{"kind": type(r).__name__, **asdict(r)} for r in plugin.records]
    facts = {key: value for key, value in vars(plugin).items() if key not in ("records", "seconds")}
    return {"qualified": plugin.qualified, **facts, "seconds": round(plugin.seconds, 3), "records": records}


def _offers(plugin: Plugin) -> str:
    counts = [(sum(isinstance(r, kind) for r in plugin.records), what) for kind, what in _KINDS]
    return ", ".join(f"{n} {_singular(what) if n == 1 else what}" for n, what in counts if n)


def _singular(kind: str) -> str:
    return kind if kind == "weights" else kind.removesuffix("s")
