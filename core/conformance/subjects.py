"""Who is checked: what a name stands for, and which checks fit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from stzoo.core.conformance.cases import Case
from stzoo.core.conformance.checks import CHECKS, Check
from stzoo.core.conformance.conformance import Conformance
from stzoo.core.discovery.manager import Plugin, PluginHost, default_host
from stzoo.core.errors import PluginError, UsageError
from stzoo.core.specs import ModelSpec, ReaderSpec

_MODULES = ("plugin", "reader", "model", "data", "hidden", "edges", "encoder", "imputer", "aligner", "memory")


@dataclass(frozen=True)
class Subject:
    """A plugin as a whole (no record), or one model or reader of it."""

    plugin: Plugin
    record: ModelSpec | ReaderSpec | None = None

    @property
    def name(self) -> str:
        """Name of the record, or of the plugin."""
        return self.plugin.name if self.record is None else self.record.name

    @property
    def role(self) -> str:
        """``plugin``, ``reader``, or the role of the model."""
        return "plugin" if self.record is None else getattr(self.record, "role", "reader")


def subjects(name: str, host: PluginHost | None = None) -> list[Subject]:
    """Return what a name stands for: a plugin with all its models and readers, or one of these with its plugin.

    Raises
    ------
    PluginError
        No such name, or the plugin is not loaded.
    """
    host = host or default_host()
    if any(name in (plugin.name, plugin.qualified) for plugin in host.plugins):
        plugin = host.plugin(name)
        if plugin.state != "loaded":
            raise PluginError(
                f"'{plugin.qualified}' is {plugin.state}: {plugin.error or 'it was not to be loaded'}",
                todo=f"see 'stzoo plugins info {plugin.qualified}'",
            )
        records = [record for record in plugin.records if isinstance(record, ModelSpec | ReaderSpec)]
        return [Subject(plugin), *(Subject(plugin, record) for record in records)]
    known = {record.name for _, record in host.of(ReaderSpec)}
    kind: type[ModelSpec] | type[ReaderSpec] = ReaderSpec if name.rpartition(":")[2] in known else ModelSpec
    found, record = host.find(kind, name)
    return [Subject(found), Subject(found, record)]


def all_checks() -> list[Check]:
    """Return every check, in the order they are run."""
    for module in _MODULES:
        import_module(f"stzoo.core.conformance.check_{module}")  # registers its checks
    return CHECKS


def check_names() -> list[str]:
    """Return the name of every check."""
    return [check.name for check in all_checks()]


def planned(given: Conformance, host: PluginHost | None = None) -> Iterator[tuple[Case, Check]]:
    """Yield every check of what was named; the checks of one subject share a case.

    Raises
    ------
    PluginError
        See :func:`subjects`.
    UsageError
        Options, a maker or sections for several models at once.
    """
    checks = all_checks()
    found = subjects(given.name, host)
    models = [one.name for one in found if isinstance(one.record, ModelSpec)]
    if len(models) > 1 and (given.config or given.make or given.sections):
        raise UsageError(
            f"'{given.name}' has {len(models)} models, and options belong to one",
            where=", ".join(models),
            todo="check them one by one",
        )
    for subject in found:
        case = Case(subject, given)
        yield from ((case, check) for check in checks if subject.role in check.roles)
