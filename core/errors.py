"""Errors that users can cause. Each says what was wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StzooError(Exception):
    """Base class of the errors that stzoo raises on purpose.

    Parameters
    ----------
    what
        What was wrong, with the offending value.
    where
        The file, field or row where it was found.
    todo
        What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, todo: str | None = None) -> None:
        self.what, self.where, self.todo = what, None if where is None else str(where), todo
        super().__init__(str(self))

    def __str__(self) -> str:
        """Format the three parts, one per line."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.todo:
            lines.append(f"  do:    {self.todo}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the three parts when the error is pickled (sent between processes)."""
        return (_rebuild, (type(self), self.what, self.where, self.todo))


def _rebuild(cls: type[StzooError], what: str, where: str | None, todo: str | None) -> StzooError:
    return cls(what, where=where, todo=todo)


class UsageError(StzooError):
    """An invalid argument, option or name (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """An unknown configuration key, or a value of the wrong type."""


class DataError(StzooError):
    """Input data that are malformed or unsuitable."""


class UnitsError(DataError):
    """Micrometres per pixel are missing or implausible."""


class GeneError(StzooError):
    """A gene that is not in the section or not known to the model."""


class PluginError(StzooError):
    """A plugin is missing, broken, incompatible or ambiguous."""


class UnknownNameError(PluginError):
    """No installed plugin provides this name (exit code 2)."""

    exit_code = 2


class WeightsError(StzooError):
    """Weights are missing, damaged or belong to another model."""


class OutputError(StzooError):
    """An output already exists or cannot be written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name (ignoring case), or an empty string."""
    folded = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean '{folded[close[0]]}'?" if close else ""
