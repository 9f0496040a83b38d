"""Who is checked: what a name stands for."""

from __future__ import annotations

from dataclasses import dataclass

from stzoo.core.discovery.manager import Plugin, PluginHost, default_host
from stzoo.core.errors import PluginError
from stzoo.core.specs import ModelSpec, ReaderSpec


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
