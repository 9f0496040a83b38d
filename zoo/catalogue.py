"""What the zoo knows of: the weights that plugins offer, and whether they are on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stzoo.core.discovery.manager import PluginManager, default_manager
from stzoo.core.errors import WeightsError
from stzoo.core.specs import ModelSpec, WeightsSpec
from stzoo.core.weights.manifest import MANIFEST

State = Literal["local", "remote", "missing"]


@dataclass(frozen=True)
class Entry:
    """One set of weights in the catalogue.

    Parameters
    ----------
    spec
        The record, as its plugin gave it.
    plugin
        ``dist:name`` of that plugin.
    role
        Role of the model that they belong to; empty where no plugin offers that model.
    state
        ``local`` (can be loaded now), ``remote`` (is downloaded on first use) or ``missing`` (listed, but not there).
    size_bytes
        Size on this machine, or as the record says.
    """

    spec: WeightsSpec
    plugin: str
    role: str
    state: State
    size_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        own = {"plugin": self.plugin, "role": self.role, "state": self.state, "size_bytes": self.size_bytes}
        return {**asdict(self.spec), **own, "local": self.state == "local"}


def list_weights(manager: PluginManager | None = None) -> list[Entry]:
    """Return every set of weights that installed plugins offer, sorted by name; nothing is downloaded."""
    manager = manager or default_manager()
    roles: dict[str, str] = {spec.name: spec.role for _, spec in manager.specs_of(ModelSpec)}
    return [_entry(plugin.qualified, spec, roles.get(spec.model, "")) for plugin, spec in manager.specs_of(WeightsSpec)]


def _entry(plugin: str, spec: WeightsSpec, role: str) -> Entry:
    folder = _folder(spec.source)
    if folder is not None and (folder / MANIFEST).is_file():
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        return Entry(spec, plugin, role, "local", size)
    return Entry(spec, plugin, role, "remote" if spec.source.startswith("hf://") else "missing", spec.size_bytes)


def _folder(source: str) -> Path | None:
    try:
        if source.startswith("package://"):
            from stzoo.core.runtime.resources import package_folder

            return package_folder(source)
        if source.startswith("hf://"):
            from stzoo.zoo.hub import find_cached

            return find_cached(source)
        return Path(source.removeprefix("file://"))
    except WeightsError:
        return None
