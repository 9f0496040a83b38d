"""The plugin manager, on distributions with real metadata in a temporary folder of ``sys.path``."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import pytest
from stzoo.core.discovery.manager import DISABLE_VARIABLE, GROUP, NONE_VARIABLE, Plugin, PluginManager, resolve
from stzoo.core.errors import PluginError, UnknownNameError
from stzoo.core.registry import model_class
from stzoo.core.specs import ModelSpec, ReaderSpec, WeightsSpec

MODEL = 'ModelSpec("{name}", "imputer", "some.module:Model", "a model", "MIT", "some.module:Config")'


def plugin_text(*names: str, header: str = "") -> str:
    records = ", ".join(MODEL.format(name=name) for name in names)
    return f"{header}\nfrom stzoo import ModelSpec, hookimpl\n@hookimpl\ndef stzoo_models():\n    return [{records}]\n"


GOOD = plugin_text("good-model")

BROKEN = {
    "missing module": (None, "ModuleNotFoundError"),
    "import error": ("import no_such_package_anywhere", "no_such_package_anywhere"),
    "syntax error": ("def broken(:\n", "SyntaxError"),
    "exit at import": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "wrong record": ("from stzoo import hookimpl\n@hookimpl\ndef stzoo_models():\n    return ['name']", "ModelSpec"),
    "record of another hook": (
        "from stzoo import ReaderSpec, hookimpl\n@hookimpl\ndef stzoo_models():\n"
        "    return [ReaderSpec('x', 'a:B', 'reads')]",
        "expected a ModelSpec",
    ),
    "record that is not valid": (plugin_text("Not A Name"), "ModelSpec.name is not valid: 'Not A Name'"),
    "nothing returned": ("from stzoo import hookimpl\n@hookimpl\ndef stzoo_models():\n    pass", "returned None"),
    "exception in a hook": ("from stzoo import hookimpl\n@hookimpl\ndef stzoo_readers():\n    1 / 0", "ZeroDivision"),
    "exit in a hook": ("from stzoo import hookimpl\n@hookimpl\ndef stzoo_models():\n    exit()", "SystemExit"),
    "misspelt hook": ("from stzoo import hookimpl\n@hookimpl\ndef stzoo_modles():\n    return []", "stzoo_modles"),
    "unknown argument": ("from stzoo import hookimpl\n@hookimpl\ndef stzoo_models(x):\n    return []", "x"),
    "one name twice": (plugin_text("twin", "twin"), "'twin' twice"),
}


def of(manager: PluginManager, name: str) -> Plugin:
    return manager.plugin(name)


def test_a_plugin_is_found_by_its_entry_point(site):
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": GOOD}, version="2.1")
    found = of(PluginManager(), "good")
    assert (found.qualified, found.version, found.state, found.error) == ("good-dist:good", "2.1", "loaded", "")
    assert [record.name for record in found.specs] == ["good-model"]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_costs_only_itself(site, case):
    text, expected = BROKEN[case]
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": GOOD})
    site.install("bad-dist", {"bad": "bad_plugin"}, {} if text is None else {"bad_plugin.py": text})
    site.modules.add("bad_plugin")
    manager = PluginManager()
    bad = of(manager, "bad")
    assert bad.state == "broken"
    assert bad.specs == ()
    assert expected in bad.error + bad.trace
    assert "Traceback" in bad.trace
    assert of(manager, "good").state == "loaded"
    assert manager.find(ModelSpec, "good-model")[0].dist == "good-dist"
    with pytest.raises(UnknownNameError, match=r"not loaded: bad-dist:bad \(broken\)"):
        manager.find(ModelSpec, "bad-model")


def test_another_interface_version_is_incompatible_not_broken(site):
    site.install("old-dist", {"old": "old_plugin"}, {"old_plugin.py": "STZOO_API = 0\n" + GOOD})
    old = of(PluginManager(), "old")
    assert old.state == "incompatible"
    assert "interface 0, this stzoo speaks 1" in old.error
    assert old.specs == ()


def test_what_a_plugin_prints_does_not_reach_standard_output(site, capsys):
    site.install("loud-dist", {"loud": "loud_plugin"}, {"loud_plugin.py": "print('hello')\n" + GOOD})
    assert of(PluginManager(), "loud").state == "loaded"
    captured = capsys.readouterr()
    assert "hello" not in captured.out
    assert "hello" in captured.err


def test_one_model_name_in_two_distributions_is_an_error_that_names_both(site):
    site.install("first-dist", {"one": "one_plugin"}, {"one_plugin.py": plugin_text("shared", "own")})
    site.install("second-dist", {"two": "two_plugin"}, {"two_plugin.py": plugin_text("shared")})
    manager = PluginManager()
    with pytest.raises(PluginError, match="'first-dist:shared' and 'second-dist:shared'"):
        manager.find(ModelSpec, "shared")
    assert manager.find(ModelSpec, "second-dist:shared")[0].dist == "second-dist"
    assert manager.find(ModelSpec, "own")[0].dist == "first-dist"


def test_one_plugin_name_in_two_distributions_keeps_both(site):
    site.install("first-dist", {"same": "one_plugin"}, {"one_plugin.py": plugin_text("one-model")})
    site.install("second-dist", {"same": "two_plugin"}, {"two_plugin.py": plugin_text("two-model")})
    manager = PluginManager()
    assert [manager.find(ModelSpec, name)[0].dist for name in ("one-model", "two-model")] == [
        "first-dist",
        "second-dist",
    ]
    with pytest.raises(PluginError, match="more than one plugin is called 'same'"):
        manager.plugin("same")
    assert manager.plugin("second-dist:same").module == "two_plugin"


def test_a_foreign_plugin_called_like_ours_does_not_replace_it(site):
    site.install("foreign-dist", {"readers": "foreign_plugin"}, {"foreign_plugin.py": GOOD})
    manager = PluginManager()
    assert manager.plugin("stzoo:readers").module == "stzoo.plugins.readers"
    assert manager.plugin("foreign-dist:readers").module == "foreign_plugin"
    assert {plugin.dist for plugin, _ in manager.specs_of(ReaderSpec)} == {"stzoo"}


def test_two_entry_points_of_one_distribution_can_not_offer_one_name(site):
    files = {"one_plugin.py": plugin_text("shared"), "two_plugin.py": plugin_text("shared")}
    site.install("one-dist", {"a": "one_plugin", "b": "two_plugin"}, files)
    manager = PluginManager()
    assert manager.plugin("a").state == "loaded"
    assert manager.plugin("b").state == "broken"
    assert "'shared' twice (also in 'a')" in manager.plugin("b").error
    assert manager.find(ModelSpec, "shared")[0].name == "a"


@pytest.mark.parametrize("name", ["bad", "bad-dist:bad"])
def test_a_disabled_plugin_is_not_imported(site, monkeypatch, name):
    site.install("bad-dist", {"bad": "bad_plugin"}, {"bad_plugin.py": "raise KeyboardInterrupt"})
    monkeypatch.setenv(DISABLE_VARIABLE, f"other, {name}")
    manager = PluginManager()
    assert manager.plugin("bad").state == "disabled"
    assert manager.plugin("bad").error == ""
    assert manager.unknown_disabled == ("other",)
    assert manager.plugin("readers").state == "loaded"


@pytest.mark.parametrize(("value", "none"), [("1", True), ("true", True), ("0", False), ("", False), ("no", False)])
def test_a_variable_loads_no_plugin_at_all(monkeypatch, value, none):
    monkeypatch.setenv(NONE_VARIABLE, value)
    assert (PluginManager().plugins == ()) is none


def test_without_entry_points_there_are_no_methods_and_no_list_of_built_in_ones():
    manager = PluginManager(points=())
    assert manager.plugins == ()
    assert manager.specs_of(ModelSpec) == []
    with pytest.raises(UnknownNameError, match=r"no model called 'knn'\n  where: installed: none"):
        model_class("knn", manager=manager)


def test_the_shipped_plugins_come_through_the_same_entry_points():
    points = [point for point in entry_points(group=GROUP) if point.dist is not None and point.dist.name == "stzoo"]
    ours = [plugin for plugin in PluginManager(points).plugins if plugin.dist == "stzoo"]
    assert {plugin.name for plugin in ours} == {point.name for point in points}
    assert [(plugin.name, plugin.error) for plugin in ours if plugin.state != "loaded"] == []


def test_an_unknown_name_gets_the_nearest_one(site):
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": GOOD})
    with pytest.raises(UnknownNameError, match="did you mean 'good-model'"):
        PluginManager().find(ModelSpec, "god-model")
    with pytest.raises(UnknownNameError, match="did you mean 'good'"):
        PluginManager().plugin("goood")
    assert UnknownNameError.exit_code == 2


def test_every_target_is_imported_on_first_use_only(site):
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": GOOD})
    manager = PluginManager()
    with pytest.raises(PluginError, match=r"some\.module:Model"):
        model_class("good-model", manager=manager)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("raise RuntimeError('cuda is gone')", "cuda is gone"), ("x = (", "SyntaxError"), ("y = 1", "Model")],
)
def test_a_target_that_fails_names_itself(site, text, reason):
    site.install("lazy-dist", {}, {"lazy_target.py": text})
    with pytest.raises(PluginError, match=reason) as caught:
        resolve("lazy_target:Model")
    assert "lazy_target:Model" in str(caught.value)


def test_a_class_of_the_wrong_kind_is_refused(site):
    text = plugin_text("good-model").replace("some.module", "good_plugin") + "\nclass Model: pass\n"
    site.install("good-dist", {"good": "good_plugin"}, {"good_plugin.py": text})
    with pytest.raises(PluginError, match="is not an imputer"):
        model_class("good-model", manager=PluginManager())
    with pytest.raises(PluginError, match="is an imputer, not an encoder"):
        model_class("good-model", role="encoder", manager=PluginManager())


def test_records_are_frozen_plain_and_json(site):
    spec = WeightsSpec("w", "m", "file://x", "some weights", "MIT")
    with pytest.raises(AttributeError):
        spec.name = "other"
    assert json.dumps({name: getattr(spec, name) for name in WeightsSpec.__slots__})


@pytest.mark.parametrize(
    "arguments",
    [
        ("Name", "m", "file://x", "s", "MIT"),
        ("n", "m", "http://x", "s", "MIT"),
        ("n", "m", "file://x", " ", "MIT"),
        ("n", "m", "file://x", "s", ""),
        ("../n", "m", "file://x", "s", "MIT"),
        (3, "m", "file://x", "s", "MIT"),
    ],
)
def test_a_record_that_could_not_be_listed_is_refused(arguments):
    with pytest.raises(ValueError, match="is not valid"):
        WeightsSpec(*arguments)
