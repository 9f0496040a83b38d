"""``stzoo plugins``: what is installed, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from stzoo.cli.tables import echo, table
from stzoo.core.errors import PluginError
from stzoo.core.plugins import Plugin, default_host
from stzoo.core.records import ModelSpec, ProtocolSpec, ReaderSpec, WeightsSpec

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List the installed plugins.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    as_json: Json = False,
    strict: Annotated[bool, typer.Option(help="Fail when a plugin is broken or incompatible.")] = False,
) -> None:
    """List every plugin with its state and what it offers."""
    host = default_host()
    if as_json:
        echo(json.dumps([_plain(plugin) for plugin in host.plugins], indent=1))
    else:
        rows = [[p.qualified, p.version, p.state, _offers(p) if p.state == "loaded" else p.error] for p in host.plugins]
        echo(table(["plugin", "version", "state", "offers"], rows) if rows else "no plugins are installed")
        for line in _models(host.of(ModelSpec)):
            echo(line)
        for name, dists in _duplicates(host.of(ModelSpec)).items():
            echo(f"warning: two plugins offer '{name}': use {' or '.join(f'{d}:{name}' for d in dists)}")
    ailing = [p.qualified for p in host.plugins if p.state in ("broken", "incompatible")]
    if strict and ailing:
        raise PluginError(f"not usable: {', '.join(ailing)}", todo=f"see 'stzoo plugins info {ailing[0]}'")


@app.command()
def info(name: Annotated[str, typer.Argument(help="Name, or dist:name.")], as_json: Json = False) -> None:
    """Show one plugin: its state, its records, and the traceback when it is broken."""
    plugin = default_host().plugin(name)
    if as_json:
        echo(json.dumps(_plain(plugin), indent=1))
        return
    echo(f"{plugin.qualified} {plugin.version}: {plugin.state}  ({plugin.module})")
    for record in plugin.records:
        kind = type(record).__name__.removesuffix("Spec").lower()
        role = f" ({record.role})" if isinstance(record, ModelSpec) else ""
        echo(f"  {kind} {record.name}{role}: {record.summary}")
    if plugin.trace:
        echo(plugin.trace)


def _plain(plugin: Plugin) -> dict[str, Any]:
    records = [{"kind": type(r).__name__, **asdict(r)} for r in plugin.records]
    return {**{k: v for k, v in vars(plugin).items() if k != "records"}, "records": records}


def _offers(plugin: Plugin) -> str:
    kinds = ((ModelSpec, "models"), (WeightsSpec, "weights"), (ReaderSpec, "readers"), (ProtocolSpec, "protocols"))
    counts = [(sum(isinstance(r, kind) for r in plugin.records), what) for kind, what in kinds]
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _models(found: list[tuple[Plugin, ModelSpec]]) -> list[str]:
    if not found:
        return []
    rows = [[spec.role, spec.name, spec.summary] for _, spec in sorted(found, key=lambda f: (f[1].role, f[1].name))]
    return ["", table(["role", "model", ""], rows)]


def _duplicates(found: list[tuple[Plugin, ModelSpec]]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for plugin, spec in found:
        names.setdefault(spec.name, []).append(plugin.dist)
    return {name: dists for name, dists in names.items() if len(dists) > 1}
