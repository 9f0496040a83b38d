"""Which checks fit a plugin, and how they are run, without pytest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module

from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import CHECKS, Check, CheckResult, CheckSkipped, ConformanceError, State
from stzoo.core.conformance.conformance import Conformance
from stzoo.core.conformance.subjects import subjects
from stzoo.core.discovery.manager import PluginManager
from stzoo.core.errors import UsageError
from stzoo.core.specs import ModelSpec

_MODULES = (
    "plugin",
    "reader",
    "model",
    "data",
    "hidden",
    "edges",
    "encoder",
    "imputer",
    "aligner",
    "memory",
    "head",
    "task",
)


def all_checks() -> list[Check]:
    """Return every check, in the order they are run."""
    for module in _MODULES:
        import_module(f"stzoo.core.conformance.check_{module}")  # registers its checks
    return CHECKS


def check_names() -> list[str]:
    """Return the name of every check."""
    return [check.name for check in all_checks()]


def plan_checks(given: Conformance, manager: PluginManager | None = None) -> Iterator[tuple[CheckContext, Check]]:
    """Yield every check of what was named; the checks of one subject share a case.

    Raises
    ------
    PluginError
        See :func:`stzoo.core.conformance.subjects.subjects`.
    UsageError
        Options, a maker or sections for several models at once.
    """
    checks = all_checks()
    found = subjects(given.name, manager)
    models = [one.name for one in found if isinstance(one.record, ModelSpec)]
    if len(models) > 1 and (given.config or given.make or given.sections):
        raise UsageError(
            f"'{given.name}' has {len(models)} models, and options belong to one",
            where=", ".join(models),
            todo="check them one by one",
        )
    for subject in found:
        case = CheckContext(subject, given)
        yield from ((case, check) for check in checks if subject.role in check.roles)


def run_checks(
    given: Conformance, *, manager: PluginManager | None = None, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[CheckResult]:
    """Run every check of a plugin, one after the other.

    Parameters
    ----------
    given
        What is checked; see :class:`Conformance`.
    manager
        Plugins to look in; by default the installed ones.
    wanted
        Which checks, by name; by default all.

    Raises
    ------
    PluginError, UsageError
        See :func:`plan_checks`.
    """
    for case, check in plan_checks(given, manager):
        if wanted(check.name):
            yield run_check(case, check)


def run_check(case: CheckContext, check: Check) -> CheckResult:
    """Run a check and say what became of it; nothing that a plugin raises gets out."""
    start, trace = time.perf_counter(), ""
    state: State = "passed"
    try:
        check.run(case)
        reason = ""
    except CheckSkipped as error:
        state, reason = "skipped", str(error)
    except ConformanceError as error:
        state, reason = "failed", str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is a finding
        state, trace = "failed", traceback.format_exc()
        reason = f"raised {type(error).__name__}: {error}"
    return CheckResult(case.subject.name, check.name, check.about, state, reason, time.perf_counter() - start, trace)
