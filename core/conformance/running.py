"""Run the checks of a plugin without pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stzoo.core.conformance.checks import Outcome, outcome
from stzoo.core.conformance.conformance import Conformance
from stzoo.core.conformance.subjects import planned
from stzoo.core.discovery.manager import PluginHost


def run_checks(
    given: Conformance, *, host: PluginHost | None = None, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Outcome]:
    """Run every check of a plugin, one after the other.

    Parameters
    ----------
    given
        What is checked; see :class:`Conformance`.
    host
        Plugins to look in; by default the installed ones.
    wanted
        Which checks, by name; by default all.

    Raises
    ------
    PluginError, UsageError
        See :func:`stzoo.core.conformance.subjects.planned`.
    """
    for case, check in planned(given, host):
        if wanted(check.name):
            yield outcome(case, check)
