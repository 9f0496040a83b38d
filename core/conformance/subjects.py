"""Who is checked: what a name stands for."""

from __future__ import annotations

from dataclasses import dataclass

from stzoo.core.discovery.manager import Plugin, PluginManager, default_manager
from stzoo.core.errors import PluginError
from stzoo.core.specs import ModelSpec, ReaderSpec


@dataclass(frozen=True)
class CheckedPlugin:
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


def subjects(name: str, manager: PluginManager | None = None) -> list[CheckedPlugin]:
    """Return what a name stands for: a plugin with all its models and readers, or one of these with its plugin.

    Raises
    ------
    PluginError
        No such name, or the plugin is not loaded.
    """
    manager = manager or default_manager()
    if any(name in (plugin.name, plugin.qualified) for plugin in manager.plugins):
        plugin = manager.plugin(name)
        if plugin.state != "loaded":
            raise PluginError(
                f"'{plugin.qualified}' is {plugin.state}: {plugin.error or 'it was not to be loaded'}",
                todo=f"see 'stzoo plugins info {plugin.qualified}'",
            )
        records = [record for record in plugin.specs if isinstance(record, ModelSpec | ReaderSpec)]
        return [CheckedPlugin(plugin), *(CheckedPlugin(plugin, record) for record in records)]
    known = {record.name for _, record in manager.specs_of(ReaderSpec)}
    kind: type[ModelSpec] | type[ReaderSpec] = ReaderSpec if name.rpartition(":")[2] in known else ModelSpec
    found, record = manager.find(kind, name)
    return [CheckedPlugin(found), CheckedPlugin(found, record)]
