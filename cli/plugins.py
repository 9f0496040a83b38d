"""``stzoo plugins``: what is installed, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from stzoo.cli.app import new_app
from stzoo.cli.plugins_check import check
from stzoo.cli.tables import echo, table
from stzoo.core.discovery.manager import DISABLE_VARIABLE, Plugin, PluginManager, default_manager
from stzoo.core.discovery.project import PROJECT, set_disabled
from stzoo.core.errors import PluginError
from stzoo.core.specs import HeadSpec, ModelSpec, ProtocolSpec, ReaderSpec, TaskSpec, TrackerSpec, WeightsSpec

app = new_app("List, make, check and switch plugins, and find what is wrong with them.")

_KINDS = (
    (ModelSpec, "models"),
    (WeightsSpec, "weights"),
    (ReaderSpec, "readers"),
    (HeadSpec, "heads"),
    (ProtocolSpec, "protocols"),
    (TaskSpec, "kinds of protocols"),
    (TrackerSpec, "trackers"),
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    as_json: Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail when anything is wrong with a plugin.")] = False,
) -> None:
    """List every plugin with its state and what it offers."""
    manager = default_manager()
    complaints = _complaints(manager)
    if as_json:
        echo(json.dumps([_plain(plugin) for plugin in manager.plugins], indent=1, ensure_ascii=False))
    else:
        rows = [[p.qualified, p.version, p.state, p.error or _offers(p)] for p in manager.plugins]
        echo(table(["plugin", "version", "state", "offers"], rows) if rows else "no plugins are installed")
        models = [[spec.role, spec.name, spec.summary] for _, spec in manager.specs_of(ModelSpec)]
        if models:
            echo("\n" + table(["role", "model", ""], sorted(models)))
    for complaint in complaints:
        typer.echo(f"warning: {complaint}", err=True)
    ailing = [p for p in manager.plugins if p.state in ("broken", "incompatible")]
    if strict and (ailing or complaints):
        what = [f"{p.qualified} is {p.state}: {p.error}" for p in ailing] + complaints
        raise PluginError("; ".join(what), todo=f"see 'stzoo plugins info {ailing[0].qualified}'" if ailing else None)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Name, or dist:name.")],
    as_json: Json = False,
) -> None:
    """Show one plugin: its state, its records, and the traceback when it is broken."""
    plugin = default_manager().plugin(name)
    if as_json:
        echo(json.dumps(_plain(plugin), indent=1, ensure_ascii=False))
        return
    echo(f"{plugin.qualified} {plugin.version}: {plugin.state}")
    echo(f"  module: {plugin.module} ({plugin.seconds:.2f} s to load)")
    if plugin.error:
        echo(f"  error: {plugin.error}")
    for record in plugin.specs:
        echo(f"\n{type(record).__name__.removesuffix('Spec').lower()} {record.name}")
        facts = {k: v for k, v in asdict(record).items() if k != "name" and v}
        echo("\n".join(f"  {key}: {value}" for key, value in facts.items()))
    if plugin.trace != plugin.error:
        echo(f"\n{plugin.trace.rstrip()}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the model, in lower case.")],
    role: Annotated[str, typer.Option(help="encoder, imputer or aligner.")],
    out: Annotated[Path | None, typer.Option(help="Folder to make; by default ./stzoo-NAME.")] = None,
    author: Annotated[str, typer.Option(help="Who holds the copyright.")] = "Your Name",
) -> None:
    """Make a complete repository for a plugin: it installs, and passes its tests and the contract, at once."""
    from stzoo.core.authoring.new_plugin import new_plugin

    folder = new_plugin(name, role, out or Path(name if name.startswith("stzoo-") else f"stzoo-{name}"), author=author)
    echo(f"wrote {folder}\n\n  cd {folder}\n  pip install -e '.[test]'\n  pytest\n  stzoo plugins check {name}")


@app.command()
def disable(name: Annotated[str, typer.Argument(help="Name, or dist:name.")]) -> None:
    """Do without a plugin in this folder (written to stzoo.yaml)."""
    plugin = default_manager().plugin(name)
    file = set_disabled(Path.cwd(), name, disabled=True)
    echo(
        f"{plugin.qualified} is not loaded in this folder any more ({file.name}); elsewhere: {DISABLE_VARIABLE}={name}"
    )


@app.command()
def enable(name: Annotated[str, typer.Argument(help="Name, or dist:name, as it stands in stzoo.yaml.")]) -> None:
    """Load a plugin again that 'disable' switched off."""
    file = set_disabled(Path.cwd(), name, disabled=False)
    echo(f"{name} is loaded in this folder again ({file.name})")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look for everything that can be wrong with the plugins, import what they name, and say what to do."""
    from stzoo.core.authoring.doctor import examine

    manager = default_manager()
    findings = examine(manager)
    if as_json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            echo(f"{finding.plugin}: {finding.what}\n  do:    {finding.todo}")
        echo(f"{len(manager.plugins)} plugins, {len(findings)} findings")
    if any(finding.wrong for finding in findings):
        raise typer.Exit(1)


app.command("check")(check)


def _complaints(manager: PluginManager) -> list[str]:
    complaints = [
        f"{DISABLE_VARIABLE} or {PROJECT} names '{name}', and no plugin is called that"
        for name in manager.unknown_disabled
    ]
    complaints += [f"{PROJECT} requires plugins: {problem}" for problem in manager.unmet]
    complaints += [f"{plugin.qualified}: {notice}" for plugin in manager.plugins for notice in plugin.notices]
    for kind, what in _KINDS:
        names: dict[str, list[str]] = {}
        for plugin, record in manager.specs_of(kind):
            names.setdefault(record.name, []).append(f"{plugin.dist}:{record.name}")
        complaints += [
            f"{len(full)} plugins offer the {_singular(what)} '{name}': write {' or '.join(full)}"
            for name, full in names.items()
            if len(full) > 1
        ]
    return complaints


def _plain(plugin: Plugin) -> dict[str, Any]:
    specs = [{"kind": type(r).__name__, **asdict(r)} for r in plugin.specs]
    facts = {key: value for key, value in vars(plugin).items() if key not in ("specs", "seconds")}
    return {"qualified": plugin.qualified, **facts, "seconds": round(plugin.seconds, 3), "specs": specs}


def _offers(plugin: Plugin) -> str:
    counts = [(sum(isinstance(r, kind) for r in plugin.specs), what) for kind, what in _KINDS]
    return ", ".join(f"{n} {_singular(what) if n == 1 else what}" for n, what in counts if n)


def _singular(kind: str) -> str:
    return "kind of protocol" if kind == "kinds of protocols" else kind if kind == "weights" else kind.removesuffix("s")
