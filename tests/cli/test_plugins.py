from __future__ import annotations

import sys
import tomllib

import pytest
from stzoo.core.discovery.manager import DISABLE_VARIABLE, NONE_VARIABLE, default_manager

ONE_FILE = """
from stzoo import ModelSpec, hookimpl

@hookimpl
def stzoo_models():
    home = "one_file_method"
    return [ModelSpec("zeros", "imputer", home + ":Zeros", "fills with zeros", "MIT", home + ":Config")]
"""
BROKEN = "from stzoo import hookimpl\nraise RuntimeError('no libcuda')\n"


@pytest.fixture
def broken(site):
    site.install("bad-dist", {"bad": "bad_plugin"}, {"bad_plugin.py": BROKEN}, version="0.9")


def test_list_shows_every_plugin_what_it_offers_and_what_is_wrong(stzoo, toy, broken):
    shown = stzoo("plugins", "list")
    assert (shown.code, shown.err) == (0, "")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "toy-dist:toy 1.0 loaded 1 model, 1 weights" in lines
    assert "bad-dist:bad 0.9 broken RuntimeError: no libcuda" in lines
    assert "imputer toy adds an offset" in lines


def test_list_as_json(stzoo, toy, broken):
    found = {plugin["qualified"]: plugin for plugin in stzoo("plugins", "list", "--json").json()}
    assert found["stzoo:readers"]["state"] == "loaded"
    bad, good = found["bad-dist:bad"], found["toy-dist:toy"]
    assert (bad["name"], bad["dist"], bad["version"], bad["state"]) == ("bad", "bad-dist", "0.9", "broken")
    assert bad["error"] == "RuntimeError: no libcuda"
    assert "bad_plugin.py" in bad["trace"]
    assert [(r["kind"], r["name"]) for r in good["specs"]] == [("ModelSpec", "toy"), ("WeightsSpec", "toy-tiny")]


def test_strict_makes_a_broken_plugin_an_error(stzoo, toy, site):
    assert stzoo("plugins", "list", "--strict").code == 0
    site.install("bad-dist", {"bad": "bad_plugin"}, {"bad_plugin.py": BROKEN})
    bad = stzoo("plugins", "list", "--strict", "--json")
    assert bad.code == 1
    assert "bad-dist:bad is broken: RuntimeError: no libcuda" in bad.err
    assert "see 'stzoo plugins info bad-dist:bad'" in bad.err
    assert bad.json()


def test_duplicates_are_shown_with_their_full_names(stzoo, toy, site):
    text = (toy / "toy_plugin" / "__init__.py").read_text()
    site.install("rival-dist", {"toy": "rival_plugin"}, {"rival_plugin.py": text})
    shown = stzoo("plugins", "list")
    assert "2 plugins offer the model 'toy': write rival-dist:toy or toy-dist:toy" in shown.err
    assert stzoo("plugins", "list", "--strict").code == 1
    assert stzoo("plugins", "info", "toy").code == 1
    assert stzoo("plugins", "info", "rival-dist:toy").code == 0


def test_info_shows_records(stzoo, toy):
    shown = stzoo("plugins", "info", "toy")
    for text in (
        "toy-dist:toy 1.0: loaded",
        "model toy",
        "target: toy_plugin.model:Toy",
        "weights toy-tiny",
        "license: MIT",
    ):
        assert text in shown.out
    assert stzoo("plugins", "info", "toy", "--json").json()["module"] == "toy_plugin"


def test_info_shows_the_traceback_of_a_broken_plugin(stzoo, broken):
    shown = stzoo("plugins", "info", "bad")
    assert shown.code == 0
    assert "error: RuntimeError: no libcuda" in shown.out
    assert "Traceback (most recent call last)" in shown.out
    assert "bad_plugin.py" in shown.out


def test_an_unknown_plugin_is_bad_use(stzoo, toy):
    bad = stzoo("plugins", "info", "toyy")
    assert bad.code == 2
    assert "no plugin called 'toyy'; did you mean 'toy'?" in bad.err


def test_disabled_plugins_are_listed_and_wrong_names_reported(stzoo, toy, monkeypatch):
    monkeypatch.setenv(DISABLE_VARIABLE, "toy,tyo")
    default_manager.cache_clear()
    shown = stzoo("plugins", "list")
    assert any(line.split()[:3] == ["toy-dist:toy", "1.0", "disabled"] for line in shown.out.splitlines())
    assert "STZOO_DISABLE_PLUGINS or stzoo.yaml names 'tyo', and no plugin is called that" in shown.err


def test_with_no_plugins_the_program_still_runs(stzoo, monkeypatch):
    monkeypatch.setenv(NONE_VARIABLE, "1")
    default_manager.cache_clear()
    try:
        assert stzoo("plugins", "list").out == "no plugins are installed\n"
        assert stzoo("plugins", "list", "--json").json() == []
        assert stzoo("zoo", "list").out == "no weights are offered by the installed plugins\n"
        assert stzoo("--help").code == 0
    finally:
        default_manager.cache_clear()


def test_a_repository_is_made_for_each_role_and_nothing_is_replaced(stzoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for role in ("encoder", "imputer", "aligner"):
        made = stzoo("plugins", "new", f"my-{role}", "--role", role, "--author", 'A "B" C')
        assert made.code == 0, made.err
        folder = tmp_path / f"stzoo-my-{role}"
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["entry-points"]["stzoo"] == {f"my-{role}": f"stzoo_my_{role}"}
        assert project["authors"] == [{"name": 'A "B" C'}]
        assert (folder / ".github" / "workflows" / "tests.yml").is_file()
        assert not list(folder.rglob("*.jinja"))
        for file in folder.rglob("*.py"):
            compile(file.read_text(), str(file), "exec")
    again = stzoo("plugins", "new", "my-imputer", "--role", "imputer")
    assert again.code == 1
    assert "exists already" in again.err


@pytest.mark.parametrize(
    ("name", "role", "message"),
    [("My Plugin", "imputer", "is no name for a plugin"), ("mine", "decoder", "there is no role 'decoder'")],
)
def test_a_repository_that_can_not_be_is_refused(stzoo, tmp_path, monkeypatch, name, role, message):
    monkeypatch.chdir(tmp_path)
    refused = stzoo("plugins", "new", name, "--role", role)
    assert refused.code == 2
    assert message in refused.err
    assert not list(tmp_path.iterdir())


def test_disable_and_enable_in_a_folder(stzoo, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stzoo("plugins", "disable", "toy").code == 0
    default_manager.cache_clear()
    assert "toy-dist:toy 1.0 disabled" in " ".join(stzoo("plugins", "list").out.split())
    assert stzoo("plugins", "enable", "toy").code == 0
    default_manager.cache_clear()
    assert "toy-dist:toy 1.0 loaded" in " ".join(stzoo("plugins", "list").out.split())
    unknown = stzoo("plugins", "disable", "tyo")
    assert unknown.code == 2
    assert "did you mean 'toy'" in unknown.err


def test_a_method_in_one_file_is_used_by_any_command(stzoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STZOO_PLUGIN_FILES", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "one_file_method.py").write_text(ONE_FILE)
    default_manager.cache_clear()
    shown = stzoo("plugins", "info", "one_file_method", "--plugin", "one_file_method.py")
    default_manager.cache_clear()
    sys.modules.pop("one_file_method", None)
    assert shown.code == 0, shown.err
    assert "file:one_file_method" in shown.out
    assert "model zeros" in shown.out
    assert stzoo("plugins", "list", "--plugin", "gone.py").code == 2
