"""``stzoo.yaml``, one-file plugins and versions of the interface."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pluggy
import pytest
from stzoo.core import hookspecs
from stzoo.core.authoring.doctor import examine
from stzoo.core.discovery import manager as plugins
from stzoo.core.discovery.manager import PluginManager
from stzoo.core.discovery.one_file import FILES_VARIABLE, use_plugin_file
from stzoo.core.discovery.project import PROJECT, Project, read_project, set_disabled, unmet
from stzoo.core.errors import ConfigError, PluginError, UsageError
from stzoo.core.hookspecs import Deprecated
from stzoo.core.specs import ModelSpec

MODELS = """
from stzoo import ModelSpec, hookimpl

@hookimpl
def stzoo_models():
    return [ModelSpec("{name}", "imputer", "{module}:Model", "a model", "MIT", "{module}:Config")]
"""
GOOD = MODELS.format(name="good-model", module="some.module")
LOCAL = (
    MODELS.format(name="local", module="my_method")
    + """
from dataclasses import dataclass
from stzoo import Imputer

@dataclass
class Config:
    pass

class Model(Imputer):
    name, config_class = "local", Config

    def fill(self, stack, values, *, progress=None):
        raise AssertionError
"""
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, and no plugin file that an earlier test named."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv(FILES_VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    return work


def test_without_a_project_file_nothing_is_required_or_disabled(folder):
    assert read_project(folder) == Project()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requred_plugins: [x]", "did you mean 'required_plugins'"),
        ("version: 9", "version is 9"),
        ("required_plugins: ['not a requirement!']", "'not a requirement!' is no requirement"),
        ("- a", "expected a mapping"),
    ],
)
def test_a_wrong_project_file_says_what_is_wrong(folder, text, message):
    (folder / PROJECT).write_text(text)
    with pytest.raises(ConfigError, match=PROJECT) as caught:
        read_project(folder)
    assert message in str(caught.value)


def test_requirements_are_those_of_pip(site):
    site.install("good-dist", {}, version="1.4")
    assert unmet(["good-dist>=1.2", "good-dist"]) == []
    assert unmet(["good-dist>=2", "absent-dist"]) == [
        "'good-dist>=2' is wanted, good-dist 1.4 is installed",
        "'absent-dist' is not installed",
    ]


def test_a_project_that_lacks_a_required_plugin_predicts_nothing_but_lists(site, folder):
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": GOOD})
    (folder / PROJECT).write_text("required_plugins: ['good-dist>=1', 'absent-dist>=3']")
    manager = PluginManager()
    assert manager.plugin("good").state == "loaded"
    with pytest.raises(PluginError, match=r"'absent-dist>=3' is not installed\n  where: stzoo.yaml"):
        manager.find(ModelSpec, "good-model")
    assert examine(manager)[0].plugin == PROJECT


def test_disabled_and_enabled_in_a_folder(site, folder):
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": "raise KeyboardInterrupt"})
    (folder / PROJECT).write_text("required_plugins: ['stzoo']")
    set_disabled(folder, "good", disabled=True)
    assert PluginManager().plugin("good").state == "disabled"
    with pytest.raises(UsageError, match=r"disabled in stzoo\.yaml already"):
        set_disabled(folder, "good", disabled=True)
    set_disabled(folder, "good", disabled=False)
    assert read_project(folder) == Project(required_plugins=["stzoo"])
    with pytest.raises(UsageError, match="not disabled"):
        set_disabled(folder, "good", disabled=False)


def test_a_file_is_a_plugin_and_its_class_can_be_pickled(folder):
    (folder / "my_method.py").write_text(LOCAL)
    use_plugin_file("my_method.py")
    manager = PluginManager()
    plugin = manager.plugin("my_method")
    assert (plugin.qualified, plugin.state) == ("file:my_method", "loaded")
    assert len(plugin.version) == 12
    from stzoo.core.registry import model_class

    cls = model_class("local", manager=manager)
    assert pickle.loads(pickle.dumps(cls(None, seed=3))).seed == 3
    sys.modules.pop("my_method")


@pytest.mark.parametrize(
    ("name", "message"), [("gone.py", "no file gone.py"), ("a-b.py", "can not be imported"), ("a.txt", "can not be")]
)
def test_a_file_that_can_be_no_plugin_is_refused(folder, name, message):
    if name != "gone.py":
        (folder / name).write_text(LOCAL)
    with pytest.raises(UsageError, match=message):
        use_plugin_file(name)
    assert os.environ[FILES_VARIABLE] == ""


def test_a_file_called_like_another_module_is_broken_and_says_so(folder):
    (folder / "json.py").write_text(LOCAL)
    use_plugin_file("json.py")
    plugin = PluginManager().plugin("file:json")
    assert plugin.state == "broken"
    assert "'json' belongs to another module" in plugin.error


@pytest.mark.parametrize(
    ("written_for", "state"),
    [(5, "incompatible"), (4, "loaded"), (3, "loaded"), (2, "incompatible"), ("4", "incompatible")],
)
def test_the_present_interface_and_the_one_before_are_understood(site, monkeypatch, written_for, state):
    monkeypatch.setattr(plugins, "API_VERSION", 4)
    site.install("some-dist", {"some": "some_plugin"}, {"some_plugin.py": f"STZOO_API = {written_for!r}\n" + GOOD})
    some = PluginManager().plugin("some")
    assert some.state == state
    if state == "incompatible":
        assert f"interface {written_for!r}, this stzoo speaks 3 and 4" in some.error


def test_a_deprecated_hook_works_and_is_announced(site, monkeypatch):
    marker = pluggy.HookspecMarker("stzoo")

    class Old:
        @marker(warn_on_impl=Deprecated("stzoo_models is deprecated since interface 1: use stzoo_things"))
        def stzoo_models(self):
            pass

    monkeypatch.setattr(hookspecs, "stzoo_models", Old().stzoo_models)
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": GOOD})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager = PluginManager()
    good = manager.plugin("good")
    assert good.state == "loaded"
    assert good.notices == ("stzoo_models is deprecated since interface 1: use stzoo_things",)
    found = [f for f in examine(manager) if f.plugin == "good-dist:good" and f.what == good.notices[0]]
    assert [f.wrong for f in found] == [False]


def test_the_method_that_the_docs_write_in_one_file_works_and_keeps_its_contract(folder):
    page = Path(__file__).parents[3] / "docs" / "plugins.md"
    (text,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (folder / "nearest_mean.py").write_text(text)
    checks = ["--only", "hidden-spots-poisoned", "--only", "measured-spots-untouched", "--only", "units"]
    checks += ["--only", "entry-module-is-light", "--only", "no-network-at-import"]
    command = ["plugins", "check", "nearest-mean", "--plugin", "nearest_mean.py", "--json", *checks]
    done = subprocess.run(
        [sys.executable, "-m", "stzoo.cli.main", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"passed"') >= 4
    assert done.stdout.count('"skipped"') == 1  # a file may import what is heavy
