"""``stzoo evaluate``: what it prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

PROTOCOL = """
name: tiny
question: does it run?
kind: same-slide
sections: [a.zarr, gone.zarr]
genes: [KRT8, NPY]
seeds: [0, 1, 2]
warning: Do not compare.
rows:
  - {name: mean}
  - {name: near, control: neighbours}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write(synthetic_section(side_um=2000, seed=0, name="a"), path / "a.zarr")
    (path / "tiny.yaml").write_text(PROTOCOL)
    return path


def test_table_notes_and_warning_are_printed(stzoo: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    done = stzoo("evaluate", folder / "tiny.yaml", "--data", folder, "--json", tmp_path / "f.json")
    assert done.code == 0
    text = done.out
    assert text.index("does it run?") < text.index("near") < text.index("Warning. Do not compare.")
    assert "note: not in the data folder, left out: gone.zarr" in text
    assert "note: section 'a' has no NPY" in text
    assert "PCC concatenated" in text
    assert " ± " in text
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["warning"] == "Do not compare."
    assert found["protocol"]["seeds"] == [0, 1, 2]
    assert {score["seeds"] for score in found["scores"]} == {3}


def test_other_seeds(stzoo: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    done = stzoo("evaluate", folder / "tiny.yaml", "--data", folder, "--seeds", "4,5", "--json", tmp_path / "f.json")
    assert done.code == 0
    assert json.loads((tmp_path / "f.json").read_text())["protocol"]["seeds"] == [4, 5]
    wrong = stzoo("evaluate", folder / "tiny.yaml", "--data", folder, "--seeds", "one")
    assert wrong.code == 2
    assert "expected whole numbers" in wrong.err


def test_rows_that_need_a_missing_package_are_named(
    stzoo: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    path = folder / "clusters.yaml"
    path.write_text(
        "name: c\nquestion: q\nkind: clustering\nsections: [a.zarr]\nlabel: region\n"
        "rows: [{name: where, control: coordinates}, {name: imagenet, model: imagenet}]\n"
    )
    done = stzoo("evaluate", path, "--data", folder)
    assert done.code == 0
    assert "not run: imagenet: 'imagenet' needs the package efficientnet_lite_pytorch" in done.out
