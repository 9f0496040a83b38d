"""A check: a function that takes a case and raises what is wrong. Its docstring says what is expected, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from stzoo.core.errors import StzooError

Run = TypeVar("Run", bound=Callable[[Any], None])

State = Literal["passed", "failed", "skipped"]
MODELS = ("encoder", "imputer", "aligner")


class ConformanceError(AssertionError):
    """What a plugin does wrong.

    Parameters
    ----------
    what
        What was found.
    todo
        What its author can do.
    """

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(f"{what}\n  do:    {todo}")


class CheckSkipped(Exception):  # noqa: N818 - nothing is wrong: like pytest's Skipped
    """The check has no meaning here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One check.

    Parameters
    ----------
    name
        Readable and stable, e.g. ``hidden-spots-poisoned``.
    roles
        Kinds of subjects it is for: ``plugin``, ``reader``, ``encoder``, ``imputer``, ``aligner``.
    about
        What is expected, and why.
    run
        Takes a :class:`~stzoo.core.conformance.cases.CheckContext`; raises :class:`ConformanceError` or
        :class:`CheckSkipped`, or returns where all is well.
    """

    name: str
    roles: tuple[str, ...]
    about: str
    run: Callable[[Any], None] = field(repr=False)


@dataclass(frozen=True)
class CheckResult:
    """What became of a check.

    Parameters
    ----------
    subject, check, about
        Who was checked, and for what.
    state, reason
        ``passed``, ``failed`` or ``skipped``, and why.
    seconds
        Wall time.
    trace
        Traceback of an error that the check did not expect; else empty.
    """

    subject: str
    check: str
    about: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    trace: str = ""


CHECKS: list[Check] = []
"""Every check, in the order they are run."""


def check(*roles: str) -> Callable[[Run], Run]:
    """Register a function as a check of these roles; its name and docstring become the check's."""

    def register(function: Run) -> Run:
        about = " ".join((function.__doc__ or "").split())
        CHECKS.append(Check(function.__name__.replace("_", "-"), roles, about, function))
        return function

    return register


def refusal(call: Callable[[], object], what: str) -> StzooError | None:
    """Return the error that a call was refused with, None where it was not.

    Raises
    ------
    ConformanceError
        It crashed, or the error says neither where nor what to do.
    """
    try:
        call()
    except StzooError as error:
        if not error.what.strip() or not (error.where or error.todo):
            raise ConformanceError(
                f"{what}: the error says only '{error}'", "say where it was, and what to do"
            ) from error
        return error
    except Exception as error:
        raise ConformanceError(
            f"{what}: {type(error).__name__}: {error}", "raise a StzooError that says what, where and what to do"
        ) from error
    return None
