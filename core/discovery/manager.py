"""Discovery: one guarded load per entry point (or file), a state for each, nothing heavy imported.

pluggy's own entry-point loader is not used: it lets a foreign entry point replace ours by name, and one
plugin that raises at import ends the whole call. pluggy still validates the hooks and holds the plugins.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar

import pluggy
from stzoo.core import hookspecs
from stzoo.core.discovery.one_file import DIST, import_file, plugin_files
from stzoo.core.discovery.project import PROJECT, Project, read_project, unmet
from stzoo.core.errors import PluginError, UnknownNameError, nearest
from stzoo.core.hookspecs import Deprecated
from stzoo.core.specs import (
    API_VERSION,
    HeadSpec,
    ModelSpec,
    ProtocolSpec,
    ReaderSpec,
    Spec,
    TaskSpec,
    TrackerSpec,
    WeightsSpec,
)

GROUP = "stzoo"
DISABLE_VARIABLE = "STZOO_DISABLE_PLUGINS"
NONE_VARIABLE = "STZOO_NO_PLUGINS"

State = Literal["loaded", "disabled", "incompatible", "broken"]
R = TypeVar("R", bound=Spec)

_HOOKS: dict[str, type[Spec]] = {
    "stzoo_models": ModelSpec,
    "stzoo_weights": WeightsSpec,
    "stzoo_readers": ReaderSpec,
    "stzoo_heads": HeadSpec,
    "stzoo_protocols": ProtocolSpec,
    "stzoo_tasks": TaskSpec,
    "stzoo_trackers": TrackerSpec,
}


@dataclass(frozen=True)
class Plugin:
    """One entry point and what became of it.

    Parameters
    ----------
    name, dist, version, module
        Entry-point name, distribution, its version, and the module it names.
    state
        ``loaded``, ``disabled``, ``incompatible`` or ``broken``.
    error, trace
        The last line of what went wrong, and the whole traceback (both empty when loaded).
    specs
        The specs that its hooks returned.
    notices
        Deprecations of the plugin interface that it still uses.
    seconds
        How long importing it and asking its hooks took.
    """

    name: str
    dist: str
    version: str
    module: str
    state: State
    error: str = ""
    trace: str = ""
    specs: tuple[Spec, ...] = field(default=(), repr=False)
    notices: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def qualified(self) -> str:
        """``dist:name``, which is unique."""
        return f"{self.dist}:{self.name}"


class PluginManager:
    """All plugins of an environment, made once by whoever needs them.

    Parameters
    ----------
    points
        Entry points to load; by default those of the group ``stzoo``.
    disabled
        Names (or ``dist:name``) not to load; by default those in ``STZOO_DISABLE_PLUGINS`` and ``stzoo.yaml``.
    files
        One-file plugins; by default those given with ``--plugin``.
    required
        Distributions that must be there, as pip takes them; by default those in ``stzoo.yaml``.
    """

    def __init__(
        self,
        points: Iterable[EntryPoint] | None = None,
        disabled: Sequence[str] | None = None,
        files: Sequence[Path] | None = None,
        required: Sequence[str] | None = None,
    ) -> None:
        project = read_project(Path.cwd()) if disabled is None or required is None else Project()
        if points is None:
            points = () if _flag(NONE_VARIABLE) else entry_points(group=GROUP)
        if disabled is None:
            disabled = [*_read_list(DISABLE_VARIABLE), *project.disabled_plugins]
        self._manager = pluggy.PluginManager("stzoo")
        self._manager.add_hookspecs(hookspecs)
        unique = {(_dist(point)[0], point.name): point for point in points}
        self.plugins: tuple[Plugin, ...] = ()
        for key in sorted(unique):
            point = unique[key]
            self.plugins += (
                self._load(Plugin(point.name, *_dist(point), point.value, "loaded"), point.load, disabled),
            )
        for path in plugin_files() if files is None else files:
            plugin = Plugin(path.stem, DIST, _digest(path), str(path), "loaded")
            self.plugins += (self._load(plugin, partial(import_file, path), disabled),)
        known = {name for p in self.plugins for name in (p.name, p.qualified)}
        self.unknown_disabled: tuple[str, ...] = tuple(sorted(set(disabled) - known))
        """Names that were to be disabled and that no plugin has."""
        self.unmet: tuple[str, ...] = tuple(unmet(project.required_plugins if required is None else required))
        """What the project requires and the environment lacks."""

    def _load(self, plugin: Plugin, load: Callable[[], Any], disabled: Sequence[str]) -> Plugin:
        if plugin.name in disabled or plugin.qualified in disabled:
            return replace(plugin, state="disabled")
        start = time.perf_counter()
        try:
            with redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DeprecationWarning)
                module = load()  # what it prints must not end in the output of a command
                wanted = getattr(module, "STZOO_API", API_VERSION)
                if wanted not in list_api_versions():
                    reason = f"written for plugin interface {wanted!r}, this stzoo speaks {_spoken()}"
                    return replace(plugin, state="incompatible", error=reason, trace=reason)
                specs = tuple(self._specs(plugin.qualified, module))
            self._refuse_twice(plugin.dist, specs)
            for one in caught:
                if not issubclass(one.category, Deprecated):
                    warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
            notices = tuple(str(one.message) for one in caught if issubclass(one.category, Deprecated))
            return replace(plugin, specs=specs, notices=notices, seconds=time.perf_counter() - start)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin does costs only itself
            if self._manager.has_plugin(plugin.qualified):
                self._manager.unregister(name=plugin.qualified)
            last = traceback.format_exception_only(error)[-1].strip()
            return replace(plugin, state="broken", error=last, trace=traceback.format_exc())

    def _specs(self, qualified: str, module: object) -> Iterator[Spec]:
        self._manager.register(module, name=qualified)
        self._manager.check_pending()
        for hook, kind in _HOOKS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin is not module:
                    continue
                returned = implementation.function()
                if not isinstance(returned, Iterable):
                    raise TypeError(f"{hook} returned {returned!r}, expected {kind.__name__} specs")
                for record in returned:
                    if type(record) is not kind:
                        raise TypeError(f"{hook} returned {record!r}, expected a {kind.__name__}")
                    yield record

    def _refuse_twice(self, dist: str, specs: Sequence[Spec]) -> None:
        """Refuse what ``dist:name`` could not tell apart: one distribution that offers a name twice."""
        seen = {(type(r), r.name): p.name for p in self.plugins if p.dist == dist for r in p.specs}
        for record in specs:
            key = (type(record), record.name)
            if key in seen:
                also = f" (also in '{seen[key]}')" if seen[key] else ""
                raise ValueError(f"{dist} offers the {type(record).__name__} '{record.name}' twice{also}")
            seen[key] = ""

    def specs_of(self, kind: type[R]) -> list[tuple[Plugin, R]]:
        """Return every record of a kind with the plugin that gave it, sorted by name."""
        found = [(p, r) for p in self.plugins for r in p.specs if isinstance(r, kind)]
        return sorted(found, key=lambda pair: (pair[1].name, pair[0].dist))

    def find(self, kind: type[R], name: str) -> tuple[Plugin, R]:
        """Return the record called ``name`` or ``dist:name``.

        Raises
        ------
        UnknownNameError
            No such record.
        PluginError
            Two distributions offer the name (both are named), or the project requires a plugin that is not there.
        """
        if self.unmet:
            raise PluginError(
                f"the work in this folder requires plugins: {'; '.join(self.unmet)}",
                where=PROJECT,
                todo="pip install what is missing, or change required_plugins",
            )
        dist, _, bare = name.rpartition(":")
        specs = self.specs_of(kind)
        found = [(p, r) for p, r in specs if r.name == bare and dist in ("", p.dist)]
        what = kind.__name__.removesuffix("Spec").lower()
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(f"'{p.dist}:{r.name}'" for p, r in found)
            raise PluginError(
                f"two plugins offer the {what} '{bare}': {both}",
                todo=f"use one of the full names, or disable one plugin with {DISABLE_VARIABLE}",
            )
        known = sorted({r.name for _, r in specs})
        raise UnknownNameError(
            f"no {what} called '{name}'{nearest(bare, known)}",
            where=f"installed: {', '.join(known) or 'none'}" + self._ailing(),
            todo="see 'stzoo plugins list'; install the distribution that offers it",
        )

    def _ailing(self) -> str:
        names = [f"{p.qualified} ({p.state})" for p in self.plugins if p.state != "loaded"]
        return f"; not loaded: {', '.join(names)}" if names else ""

    def plugin(self, name: str) -> Plugin:
        """Return the plugin called ``name`` or ``dist:name``."""
        found = [p for p in self.plugins if name in (p.name, p.qualified)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(p.qualified for p in found)
            raise PluginError(f"more than one plugin is called '{name}'", where=names, todo="use dist:name")
        known = [p.name for p in self.plugins]
        raise UnknownNameError(
            f"no plugin called '{name}'{nearest(name, known)}",
            where=f"installed: {', '.join(known) or 'none'}",
            todo="see 'stzoo plugins list'",
        )


def resolve(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute.

    Raises
    ------
    PluginError
        The module fails to import, in whatever way, or lacks the attribute.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"'{target}' can not be imported: {reason}", todo="reinstall or update the plugin that names it"
        ) from error


def list_api_versions() -> tuple[int, ...]:
    """Return the versions of the plugin interface that are understood: the present one and the one before."""
    return tuple(range(max(1, API_VERSION - 1), API_VERSION + 1))


def _spoken() -> str:
    return " and ".join(str(version) for version in list_api_versions())


def _read_list(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def _digest(path: Path) -> str:
    from stzoo.core.runtime.digests import sha256_of

    return sha256_of(path)[:12] if path.is_file() else "absent"


def _dist(point: EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return (dist.name, dist.version) if dist is not None else ("unknown", "0")


def _flag(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


@cache
def default_manager() -> PluginManager:
    """Return the manager of this process (the environment is read once)."""
    return PluginManager()
