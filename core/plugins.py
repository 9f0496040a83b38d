"""Discovery: one guarded load per entry point, a state for each, nothing heavy imported.

pluggy's own entry-point loader is not used: it lets a foreign entry point replace ours by name, and one
plugin that raises at import ends the whole call. pluggy still validates the hooks and holds the plugins.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

import pluggy
from stzoo.core import hookspecs
from stzoo.core.errors import PluginError, UnknownNameError, nearest
from stzoo.core.records import API_VERSION, ModelSpec, ProtocolSpec, ReaderSpec, Record, TrackerSpec, WeightsSpec

GROUP = "stzoo"
DISABLE_VARIABLE = "STZOO_DISABLE_PLUGINS"
NONE_VARIABLE = "STZOO_NO_PLUGINS"

State = Literal["loaded", "disabled", "incompatible", "broken"]
R = TypeVar("R", bound=Record)

_HOOKS: dict[str, type[Record]] = {
    "stzoo_models": ModelSpec,
    "stzoo_weights": WeightsSpec,
    "stzoo_readers": ReaderSpec,
    "stzoo_protocols": ProtocolSpec,
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
    records
        The records that its hooks returned.
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
    records: tuple[Record, ...] = field(default=(), repr=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def qualified(self) -> str:
        """``dist:name``, which is unique."""
        return f"{self.dist}:{self.name}"


class PluginHost:
    """All plugins of an environment, made once by whoever needs them.

    Parameters
    ----------
    points
        Entry points to load; by default those of the group ``stzoo``.
    disabled
        Names (or ``dist:name``) not to load; by default those in ``STZOO_DISABLE_PLUGINS``.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None, disabled: Sequence[str] | None = None) -> None:
        if points is None:
            points = () if _flag(NONE_VARIABLE) else entry_points(group=GROUP)
        if disabled is None:
            disabled = [name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()]
        self._manager = pluggy.PluginManager("stzoo")
        self._manager.add_hookspecs(hookspecs)
        unique = {(_dist(point)[0], point.name): point for point in points}
        self.plugins: tuple[Plugin, ...] = ()
        for key in sorted(unique):
            self.plugins += (self._load(unique[key], disabled),)
        known = {name for p in self.plugins for name in (p.name, p.qualified)}
        self.unknown_disabled: tuple[str, ...] = tuple(sorted(set(disabled) - known))
        """Names that were to be disabled and that no plugin has."""

    def _load(self, point: EntryPoint, disabled: Sequence[str]) -> Plugin:
        dist, version = _dist(point)
        plugin = Plugin(point.name, dist, version, point.value, "loaded")
        if plugin.name in disabled or plugin.qualified in disabled:
            return replace(plugin, state="disabled")
        start = time.perf_counter()
        try:
            with redirect_stdout(sys.stderr):  # what a plugin prints must not end in the output of a command
                module = point.load()
                wanted = getattr(module, "STZOO_API", API_VERSION)
                if wanted != API_VERSION:
                    reason = f"written for plugin interface {wanted!r}, this stzoo speaks {API_VERSION}"
                    return replace(plugin, state="incompatible", error=reason, trace=reason)
                records = tuple(self._records(plugin.qualified, module))
            self._refuse_twice(dist, records)
            return replace(plugin, records=records, seconds=time.perf_counter() - start)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin does costs only itself
            if self._manager.has_plugin(plugin.qualified):
                self._manager.unregister(name=plugin.qualified)
            last = traceback.format_exception_only(error)[-1].strip()
            return replace(plugin, state="broken", error=last, trace=traceback.format_exc())

    def _records(self, qualified: str, module: object) -> Iterator[Record]:
        self._manager.register(module, name=qualified)
        self._manager.check_pending()
        for hook, kind in _HOOKS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin is not module:
                    continue
                returned = implementation.function()
                if not isinstance(returned, Iterable):
                    raise TypeError(f"{hook} returned {returned!r}, expected {kind.__name__} records")
                for record in returned:
                    if type(record) is not kind:
                        raise TypeError(f"{hook} returned {record!r}, expected a {kind.__name__}")
                    yield record

    def _refuse_twice(self, dist: str, records: Sequence[Record]) -> None:
        """Refuse what ``dist:name`` could not tell apart: one distribution that offers a name twice."""
        seen = {(type(r), r.name): p.name for p in self.plugins if p.dist == dist for r in p.records}
        for record in records:
            key = (type(record), record.name)
            if key in seen:
                also = f" (also in '{seen[key]}')" if seen[key] else ""
                raise ValueError(f"{dist} offers the {type(record).__name__} '{record.name}' twice{also}")
            seen[key] = ""

    def of(self, kind: type[R]) -> list[tuple[Plugin, R]]:
        """Return every record of a kind with the plugin that gave it, sorted by name."""
        found = [(p, r) for p in self.plugins for r in p.records if isinstance(r, kind)]
        return sorted(found, key=lambda pair: (pair[1].name, pair[0].dist))

    def find(self, kind: type[R], name: str) -> tuple[Plugin, R]:
        """Return the record called ``name`` or ``dist:name``.

        Raises
        ------
        UnknownNameError
            No such record.
        PluginError
            Two distributions offer the name (both are named).
        """
        dist, _, bare = name.rpartition(":")
        records = self.of(kind)
        found = [(p, r) for p, r in records if r.name == bare and dist in ("", p.dist)]
        what = kind.__name__.removesuffix("Spec").lower()
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(f"'{p.dist}:{r.name}'" for p, r in found)
            raise PluginError(
                f"two plugins offer the {what} '{bare}': {both}",
                todo=f"use one of the full names, or disable one plugin with {DISABLE_VARIABLE}",
            )
        known = sorted({r.name for _, r in records})
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


def _dist(point: EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return (dist.name, dist.version) if dist is not None else ("unknown", "0")


def _flag(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no")


@cache
def default_host() -> PluginHost:
    """Return the host of this process (the environment is read once)."""
    return PluginHost()
