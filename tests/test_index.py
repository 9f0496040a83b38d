"""The plugin index: entries fit the schema, and the pages that are made of it are current."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from stzoo.core.discovery.manager import default_manager
from stzoo.core.specs import ModelSpec

ROOT = Path(__file__).parents[1]


@pytest.fixture
def render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", ROOT / "index" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_current(render):
    for name, text in render.pages().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "run: python index/render.py"


def test_what_the_index_says_of_stzoo_is_what_it_offers():
    told = yaml.safe_load((ROOT / "index" / "plugins" / "stzoo.yaml").read_text())["models"]
    offered = {spec.name: spec.role for plugin, spec in default_manager().specs_of(ModelSpec) if plugin.dist == "stzoo"}
    assert {entry["name"]: entry["role"] for entry in told}.items() <= offered.items()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"license": None}, "license: None is not of type 'string'"),
        ({"extra": 1}, "'extra' was unexpected"),
        ({"models": []}, "models: [] should be non-empty"),
        ({"distribution": "other"}, "distribution is 'other', expected the name of the file"),
    ],
)
def test_a_wrong_entry_is_named_with_its_fault(render, tmp_path, monkeypatch, change, fault):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "schema.json").write_bytes((ROOT / "index" / "schema.json").read_bytes())
    entry = yaml.safe_load((ROOT / "index" / "plugins" / "stzoo.yaml").read_text())
    (tmp_path / "plugins" / "stzoo.yaml").write_text(yaml.safe_dump({**entry, **change}))
    monkeypatch.setattr(render, "HERE", tmp_path)
    with pytest.raises(SystemExit) as caught:
        render.entries()
    assert "stzoo.yaml: " in str(caught.value)
    assert fault in str(caught.value)
