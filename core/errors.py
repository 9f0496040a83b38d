"""Errors that a user can cause: what was wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StzooError(Exception):
    """Base of every error that stzoo raises on purpose.

    Parameters
    ----------
    what
        What was wrong, with the offending value.
    where
        The file, field or row in which it was found.
    todo
        What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, todo: str | None = None) -> None:
        self.what, self.where, self.todo = what, None if where is None else str(where), todo
        super().__init__(str(self))

    def __str__(self) -> str:
        """Join the three parts, one line each."""
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.todo:
            lines.append(f"  do:    {self.todo}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the parts when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.what, self.where, self.todo))


def _rebuild(cls: type[StzooError], what: str, where: str | None, todo: str | None) -> StzooError:
    return cls(what, where=where, todo=todo)


class UsageError(StzooError):
    """A wrong argument, option or name (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """An unknown or ill-typed key of a configuration."""


class DataError(StzooError):
    """A file that is not what its reader expects."""


class UnitsError(DataError):
    """Micrometres per pixel are missing or impossible."""


class GeneError(StzooError):
    """A gene that the section or the model does not have."""


class PluginError(StzooError):
    """A plugin that is missing, broken, incompatible or ambiguous."""


class UnknownNameError(PluginError):
    """A name that no installed plugin offers (exit code 2)."""

    exit_code = 2


class WeightsError(StzooError):
    """Weights that are missing, damaged or made for another model."""


class OutputError(StzooError):
    """An output that exists already or can not be written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name (case aside), or an empty string."""
    folded = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean '{folded[close[0]]}'?" if close else ""
