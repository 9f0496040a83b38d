"""The pytest plugin: collects :func:`conformance_tests`, one item a check. Light: pytest imports it everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stzoo.core.conformance.conformance import Conformance

if TYPE_CHECKING:
    from stzoo.core.conformance.cases import CheckContext
    from stzoo.core.conformance.checks import Check


@pytest.hookimpl
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> pytest.Collector | None:
    """Take over what :func:`conformance_tests` returned; leave everything else to pytest."""
    if not isinstance(obj, Conformance):
        return None
    made: pytest.Collector = ConformanceCollector.from_parent(collector, name=name, given=obj)
    return made


class ConformanceCollector(pytest.Collector):
    """The checks of one plugin."""

    def __init__(self, *, given: Conformance, **options: Any) -> None:
        super().__init__(**options)
        self.given = given

    def collect(self) -> Iterator[ConformanceItem]:
        """Yield an item for each check; a plugin that is not there is an error of collection."""
        from stzoo.core.conformance.run_checks import plan_checks
        from stzoo.core.errors import StzooError

        try:
            for case, check in plan_checks(self.given):
                name = f"{case.subject.name}-{check.name}"
                yield ConformanceItem.from_parent(self, name=name, case=case, check=check)
        except StzooError as error:
            raise self.CollectError(str(error)) from error


class ConformanceItem(pytest.Item):
    """One check of one subject."""

    def __init__(self, *, case: CheckContext, check: Check, **options: Any) -> None:
        super().__init__(**options)
        self.case, self.check = case, check

    def runtest(self) -> None:
        """Run the check."""
        from stzoo.core.conformance.checks import CheckSkipped

        try:
            self.check.run(self.case)
        except CheckSkipped as error:
            pytest.skip(str(error))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what was found and what to do; a traceback only for what the check did not expect."""
        from stzoo.core.conformance.checks import ConformanceError

        if isinstance(excinfo.value, ConformanceError):
            return f"{self.case.subject.name}: {excinfo.value}\n\nexpected: {self.check.about}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Say where the item comes from: the file with the line, and the check."""
        return self.path, None, f"{self.case.subject.name}: {self.check.name}"
