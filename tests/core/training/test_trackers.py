"""Trackers behind the hook: told every row, and never the end of a run."""

from __future__ import annotations

import csv
import sys

import pytest
from resumable_run import Toy
from stzoo.core.errors import PluginError, UnknownNameError
from stzoo.core.training.loop import Validation, fit

SPEC = """
from stzoo.core.hookspecs import hookimpl
from stzoo.core.specs import TrackerSpec

@hookimpl
def stzoo_trackers():
    return [
        TrackerSpec("memory", "told_plugin.tracker:Memory", "remembers"),
        TrackerSpec("faulty", "told_plugin.tracker:Faulty", "raises"),
        TrackerSpec("absent", "told_plugin.missing:Absent", "is not there", requires="told[all]"),
    ]
"""
TRACKER = """
told = []

class Memory:
    def start(self, out, config):
        told.append(("start", out, config))
    def log(self, step, metrics):
        told.append((step, dict(metrics)))
    def close(self):
        told.append("close")

class Faulty(Memory):
    def log(self, step, metrics):
        raise OSError("no network")
"""


@pytest.fixture
def plugin(site):
    site.install("told", {"told": "told_plugin"}, {"told_plugin/__init__.py": SPEC, "told_plugin/tracker.py": TRACKER})


def validation():
    return Validation(lambda: {"pcc": 0.5}, 2)


def test_a_tracker_is_told_what_the_logs_say(tmp_path, plugin):
    fit(Toy(), out=tmp_path, steps=3, seed=3, config={"a": 1}, trackers=["memory"], validation=validation())
    told = sys.modules["told_plugin.tracker"].told
    assert told[0][:2] == ("start", tmp_path)
    assert told[0][2]["config"] == {"a": 1}
    assert told[-1] == "close"
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert [entry[1]["loss"] for entry in told[1:-1] if "loss" in entry[1]] == losses
    judged = [entry for entry in told[1:-1] if "validation/pcc" in entry[1]]
    assert [(step, metrics["validation/pcc"]) for step, metrics in judged] == [(2, 0.5), (3, 0.5)]


def test_a_tracker_that_raises_costs_a_warning_and_not_the_run(tmp_path, plugin):
    with pytest.warns(UserWarning, match="'faulty' failed and is told nothing more: OSError: no network") as said:
        done = fit(Toy(), out=tmp_path, steps=3, seed=3, trackers=["faulty"])
    assert done.steps == 3
    assert len(said) == 1


def test_a_package_that_is_missing_is_named(tmp_path, plugin):
    with pytest.raises(PluginError, match=r"the tracker 'absent' needs(.|\n)*pip install 'told\[all\]'"):
        fit(Toy(), out=tmp_path, steps=3, seed=3, trackers=["absent"])


def test_an_unknown_tracker_is_an_error(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no tracker called 'tensorbord'; did you mean 'tensorboard'"):
        fit(Toy(), out=tmp_path, steps=3, seed=3, trackers=["tensorbord"])


def test_tensorboard_holds_every_step_once_after_a_resume(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(Toy(steps=6), out=tmp_path, steps=3, seed=3, trackers=["tensorboard"])
    fit(Toy(steps=6), out=tmp_path, steps=6, seed=3, resume=True, trackers=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    found = events.Scalars("loss")
    assert [event.step for event in found] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in found] == pytest.approx(losses, rel=1e-6)
