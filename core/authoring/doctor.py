"""What can be wrong with installed plugins, found by looking: records, imports, requirements, start-up time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stzoo.core.conformance.worker import in_process
from stzoo.core.discovery.manager import Plugin, PluginManager, resolve
from stzoo.core.discovery.one_file import DIST
from stzoo.core.discovery.project import PROJECT
from stzoo.core.errors import StzooError
from stzoo.core.specs import ModelSpec, ProtocolSpec, ReaderSpec, Spec, WeightsSpec

SLOW_S = 0.2
"""A plugin that takes longer than this to load is reported: every command waits for it."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that could be better.

    Parameters
    ----------
    plugin
        ``dist:name``, or the project file.
    what, todo
        What was found, and what to do about it.
    wrong
        Something does not work; otherwise it only costs time, or will not work with the next version.
    """

    plugin: str
    what: str
    todo: str
    wrong: bool = True


def examine(manager: PluginManager) -> list[Finding]:
    """Return the findings on all plugins, in the order of their names."""
    findings = [Finding(PROJECT, f"requires plugins: {problem}", "pip install it") for problem in manager.unmet]
    findings += [
        Finding(PROJECT, f"'{name}' is to be disabled, and no plugin is called that", "take it out")
        for name in manager.unknown_disabled
    ]
    for plugin in manager.plugins:
        findings += _plugin(plugin)
    return findings + list(_twice(manager))


def _plugin(plugin: Plugin) -> Iterator[Finding]:
    if plugin.state in ("broken", "incompatible"):
        update = f"update or remove it; the traceback: stzoo plugins info {plugin.qualified}"
        yield Finding(plugin.qualified, f"{plugin.state}: {plugin.error}", update)
    if plugin.state != "loaded":
        return
    for notice in plugin.notices:
        yield Finding(plugin.qualified, notice, "tell its authors", wrong=False)
    for record in plugin.specs:
        yield from _record(plugin, record)
    yield from _requirements(plugin)
    yield from _start(plugin)


def _start(plugin: Plugin) -> Iterator[Finding]:
    """Import the plugin in a process of its own, without a network, as the conformance kit does; a file may be heavy.

    A file is imported only where ``--plugin`` names it, and not by every command.
    """
    heavy: list[str] = []
    if plugin.dist != DIST:
        try:
            seen = in_process("light", plugin.module)
        except RuntimeError as error:
            what = f"can not be imported in a process of its own, without a network: {error}"
            yield Finding(plugin.qualified, what, "tell its authors", wrong=False)
            return
        heavy = seen["heavy"]
        if seen["network"]:
            what = f"asks for {seen['network'][0]} when it is imported"
            yield Finding(plugin.qualified, what, "its authors should fetch on first use", wrong=False)
    if plugin.seconds > SLOW_S or heavy:
        imports = f", and imports {', '.join(heavy)}" if heavy else ""
        what = f"takes {plugin.seconds:.2f} s to load{imports}"
        yield Finding(plugin.qualified, what, "its authors should import what is heavy on use", wrong=False)


def _record(plugin: Plugin, record: Spec) -> Iterator[Finding]:
    """Import what a record names; an optional package that is missing is no fault of the plugin."""
    targets: list[str] = []
    if isinstance(record, ModelSpec):
        targets = [record.target, record.config]
    elif isinstance(record, ReaderSpec):
        targets = [record.target]  # those of trackers need optional packages, and say so themselves
    for target in targets:
        try:
            resolve(target)
        except StzooError as error:
            missing = isinstance(error.__cause__, ImportError)
            todo = "install what it needs" if missing else (error.todo or "update it")
            yield Finding(plugin.qualified, f"{type(record).__name__} '{record.name}': {error.what}", todo)
    if isinstance(record, ProtocolSpec | WeightsSpec):
        yield from _resource(plugin, record)


def _resource(plugin: Plugin, record: ProtocolSpec | WeightsSpec) -> Iterator[Finding]:
    from stzoo.core.runtime.resources import resource

    source = record.resource if isinstance(record, ProtocolSpec) else record.source
    if source.startswith(("hf://", "file://")):
        return
    try:
        found = resource(source.removeprefix("package://"))
        if not found.exists():
            raise FileNotFoundError(found)
    except (StzooError, OSError, ImportError) as error:
        what = f"{type(record).__name__} '{record.name}' names {source}, which is not there ({type(error).__name__})"
        yield Finding(plugin.qualified, what, "reinstall it")


def _requirements(plugin: Plugin) -> Iterator[Finding]:
    """Compare what the distribution says it needs with what is installed (extras aside)."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    if plugin.dist == DIST:
        return
    try:
        wanted = [Requirement(text) for text in requires(plugin.dist) or ()]
    except PackageNotFoundError:
        return
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            what = f"needs {requirement}, and {found or 'nothing'} is installed"
            yield Finding(plugin.qualified, what, f"pip install '{requirement}'")


def _twice(manager: PluginManager) -> Iterator[Finding]:
    names: dict[tuple[type, str], list[str]] = {}
    for plugin in manager.plugins:
        for record in plugin.specs:
            names.setdefault((type(record), record.name), []).append(plugin.qualified)
    for (kind, name), owners in sorted(names.items(), key=str):
        if len(owners) > 1:
            what = (
                f"the {kind.__name__.removesuffix('Spec').lower()} '{name}' is also offered by {', '.join(owners[1:])}"
            )
            yield Finding(owners[0], what, f"write DIST:{name}, or disable one of them", wrong=False)
