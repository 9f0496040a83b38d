"""Who is checked: what a name stands for."""

from __future__ import annotations

from dataclasses import dataclass

from stzoo.core.discovery.manager import Plugin, PluginManager, default_manager
from stzoo.core.errors import PluginError
from stzoo.core.specs import HeadSpec, ModelSpec, ReaderSpec, TaskSpec

Checked = ModelSpec | ReaderSpec | HeadSpec | TaskSpec
_ROLES: dict[type, str] = {ReaderSpec: "reader", HeadSpec: "head", TaskSpec: "task"}


@dataclass(frozen=True)
class CheckedPlugin:
    """A plugin as a whole (no record), or one model, reader, head or kind of protocol of it."""

    plugin: Plugin
    record: Checked | None = None

    @property
    def name(self) -> str:
        """Name of the record, or of the plugin."""
        return self.plugin.name if self.record is None else self.record.name

    @property
    def role(self) -> str:
        """``plugin``, ``reader``, ``head``, ``task``, or the role of the model."""
        if isinstance(self.record, ModelSpec):
            return self.record.role
        return "plugin" if self.record is None else _ROLES[type(self.record)]


def subjects(name: str, manager: PluginManager | None = None) -> list[CheckedPlugin]:
    """Return what a name stands for: a plugin with all it offers, or models, readers, heads and kinds of that name.

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
        records = [record for record in plugin.specs if isinstance(record, Checked)]
        return [CheckedPlugin(plugin), *(CheckedPlugin(plugin, record) for record in records)]
    bare = name.rpartition(":")[2]
    kinds: list[type[Checked]] = [ReaderSpec, HeadSpec, TaskSpec]
    offering = [kind for kind in kinds if any(record.name == bare for _, record in manager.specs_of(kind))]
    found = [manager.find(kind, name) for kind in offering or [ModelSpec]]
    plugins = {plugin.qualified: plugin for plugin, _ in found}
    return [*map(CheckedPlugin, plugins.values()), *(CheckedPlugin(plugin, record) for plugin, record in found)]
