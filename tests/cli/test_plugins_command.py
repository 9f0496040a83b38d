from __future__ import annotations

import pytest
from stzoo.core.plugins import DISABLE_VARIABLE, NONE_VARIABLE, default_host

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
    assert [(r["kind"], r["name"]) for r in good["records"]] == [("ModelSpec", "toy"), ("WeightsSpec", "toy-tiny")]


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
    default_host.cache_clear()
    shown = stzoo("plugins", "list")
    assert any(line.split()[:3] == ["toy-dist:toy", "1.0", "disabled"] for line in shown.out.splitlines())
    assert "STZOO_DISABLE_PLUGINS names 'tyo', and no plugin is called that" in shown.err


def test_with_no_plugins_the_program_still_runs(stzoo, monkeypatch):
    monkeypatch.setenv(NONE_VARIABLE, "1")
    default_host.cache_clear()
    try:
        assert stzoo("plugins", "list").out == "no plugins are installed\n"
        assert stzoo("plugins", "list", "--json").json() == []
        assert stzoo("zoo", "list").out == "no weights are offered by the installed plugins\n"
        assert stzoo("--help").code == 0
    finally:
        default_host.cache_clear()
