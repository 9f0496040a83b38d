"""The conformance kit itself: it finds planted faults, says what to do, and disturbs nobody."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stzoo.core.conformance import conformance_tests, data
from stzoo.core.conformance.run_checks import all_checks, plan_checks, run_checks
from stzoo.core.data.section import Section
from stzoo.core.discovery.manager import PluginManager
from stzoo.core.errors import PluginError, UnknownNameError, UsageError
from stzoo.core.registry import model

ROOT = Path(__file__).resolve().parents[3]
KIT = runpy.run_path(str(ROOT / "benchmarks" / "mutants.py"))
MUTANTS = list(enumerate(KIT["MUTANTS"]))


@pytest.mark.parametrize("role", KIT["ROLES"])
def test_a_good_plugin_passes_every_check(role: str) -> None:
    with KIT["installed"](None) as manager:
        found = list(run_checks(conformance_tests(f"good-{role}"), manager=manager))
    assert {one.check for one in found} == {c.name for c in all_checks() if {"plugin", role} & set(c.roles)}
    assert [(one.check, one.reason) for one in found if one.state != "passed"] == []


@pytest.mark.parametrize(("number", "mutant"), MUTANTS, ids=[mutant.name for _, mutant in MUTANTS])
def test_a_planted_fault_is_found_by_the_check_that_is_for_it(number: int, mutant: Any) -> None:
    (found,) = KIT["tried"](mutant, number, only=True)
    assert found.state == "failed"
    assert "\n  do:    " in found.reason or found.trace


def test_the_mutants_try_every_kind_of_check() -> None:
    tried = {mutant.check for _, mutant in MUTANTS}
    assert len(MUTANTS) >= 20
    assert len(tried) >= 25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plugin with a fault, installed, and the line of tests that its author wrote."""
    mutant = next(m for _, m in MUTANTS if m.name == "confidence above 1")
    for name, text in KIT["source"](mutant, "my_plugin").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    info = tmp_path / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stzoo]\nmine = my_plugin\n")
    (tmp_path / "test_conformance.py").write_text(
        "from stzoo.core.conformance import conformance_tests\n\n"
        'test_conformance = conformance_tests("good-imputer")\n'
        'test_absent = conformance_tests("no-such-model")\n'
    )
    return tmp_path


def in_folder(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_one_line_makes_an_item_a_check_and_a_failure_says_what_to_do(folder: Path) -> None:
    chosen = "filled-is-whole or config-round-trip"
    done = in_folder(folder, "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors", "-k", chosen)
    text = done.stdout
    assert done.returncode == 1
    assert "1 failed, 1 passed" in text
    assert "FAILED test_conformance.py::test_conformance::good-imputer-filled-is-whole" in text
    assert "confidence leaves 0 to 1\n  do:    clip it" in text
    assert "expected: ``fill`` returns finite float32" in text
    assert "no model called 'no-such-model'" in text
    assert "Traceback" not in text


def test_the_command_line_runs_the_same_checks(folder: Path) -> None:
    command = ["plugins", "check", "good-imputer", "--only", "filled-is-whole", "--only", "answers"]
    run = "import sys; from stzoo.cli.main import run; sys.exit(run(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", run, *command, *more]
        return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    shown, plain = call(), call("--json")
    assert shown.returncode == plain.returncode == 1
    assert "filled-is-whole  failed" in shown.stdout
    assert "confidence leaves 0 to 1" in shown.stdout
    assert "1 passed, 1 failed, 0 skipped" in shown.stdout
    assert "Traceback" not in shown.stderr
    states = {one["check"]: one["state"] for one in json.loads(plain.stdout)}
    assert states == {"answers": "passed", "filled-is-whole": "failed"}


def test_other_peoples_test_runs_are_not_slowed_down(tmp_path: Path) -> None:
    code = (
        "import sys; import stzoo.core.conformance.pytest_plugin; from stzoo.core.conformance.worker import HEAVY\n"
        "print(sorted(set(HEAVY) & set(sys.modules)))\n"
        "print(any(name.startswith('stzoo.core.encoder') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_shipped_plugins_are_like_anybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baselines, copied out as a distribution of their own, with stzoo's own plugins hidden."""
    shutil.copytree(ROOT / "plugins" / "baselines", tmp_path / "foreign", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "foreign").rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("stzoo.plugins.baselines", "foreign"), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    manager = PluginManager([EntryPoint("foreign", "foreign", "stzoo")], disabled=())
    found = list(run_checks(conformance_tests("bilinear"), manager=manager))
    assert [(one.check, one.reason) for one in found if one.state != "passed"] == []
    assert {"bilinear", "foreign"} == {one.subject for one in found}


def test_an_author_may_give_the_model_and_the_sections() -> None:
    made: list[str] = []

    def make() -> Any:
        made.append("model")
        return model("knn", {"neighbours": 3})

    def sections() -> tuple[Section, Section]:
        made.append("sections")
        return data.sections_of("imputer")

    given = conformance_tests("knn", make=make, sections=sections)
    (done,) = run_checks(given, wanted=lambda name: name == "hidden-spots-poisoned")
    assert (done.state, done.reason) == ("passed", "")
    assert {"model", "sections"} == set(made)


def test_a_model_without_weights_is_no_pass() -> None:
    found = {one.check: one for one in run_checks(conformance_tests("vit"), wanted=_among("answers", "batch-size"))}
    assert found["answers"].state == "failed"
    assert "give a ready model" in found["answers"].reason
    assert found["batch-size"].state == "skipped"


def _among(*names: str) -> Callable[[str], bool]:
    return lambda name: name in names


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="no model called 'knnn'; did you mean 'knn'"):
        list(plan_checks(conformance_tests("knnn")))
    with pytest.raises(UsageError, match=r"'baselines' has \d+ models, and options belong to one"):
        list(plan_checks(conformance_tests("baselines", config={"neighbours": 2})))
    broken = PluginManager([EntryPoint("broken", "no_such_module", "stzoo")], disabled=())
    with pytest.raises(PluginError, match="'unknown:broken' is broken"):
        list(plan_checks(conformance_tests("broken"), broken))


def test_sections_are_changed_only_as_they_say() -> None:
    first, _ = data.sections_of("imputer")
    hidden = ~first.measured
    poisoned = data.poison(first, hidden, 1e6)
    assert np.array_equal(poisoned.counts()[~hidden], first.counts()[~hidden])
    assert (poisoned.adata.X[hidden] == 1e6).all()
    assert np.array_equal(poisoned.hide(first.measured).counts(), first.hide(first.measured).counts(), equal_nan=True)
    assert np.array_equal(data.finer(first).um, first.um)
    dense = data.denser(first, 3)
    assert len(dense) == 9 * len(first)
    assert np.array_equal(dense.measured, data.quarter(dense))
    assert len(np.unique(dense.um.round(3), axis=0)) == len(dense)


def test_the_plugin_of_pytest_is_an_entry_point() -> None:
    (point,) = [p for p in entry_points(group="pytest11") if p.name == "stzoo"]
    assert point.value == "stzoo.core.conformance.pytest_plugin"


def test_the_docs_list_every_check_in_its_own_words() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    rows = [f"| `{one.name}` | {', '.join(one.roles)} | {one.about} |" for one in all_checks()]
    assert [row for row in rows if row not in text] == []
    assert text.partition("## The checks")[2].count("\n| `") == len(rows)
