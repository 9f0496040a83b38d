"""Weights that plugins list in YAML."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from stzoo.core.weights.listing import weights_from_yaml

ROOT = Path(__file__).resolve().parents[3]
GOOD = "toy-a: {model: toy, source: 'package://toy/weights', summary: a toy, license: MIT, metrics: {pcc: 0.5}}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "listed"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("listed", None)


def test_records_come_out_as_written(package):
    (package / "weights.yaml").write_text(GOOD)
    (spec,) = weights_from_yaml("listed/weights.yaml")
    assert (spec.name, spec.model, spec.license, spec.metrics) == ("toy-a", "toy", "MIT", {"pcc": 0.5})
    assert spec.commercial is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (GOOD.replace("summary", "sumary"), "unknown key 'sumary'; did you mean 'summary'"),
        (GOOD.replace("0.5", "high"), "metrics is not valid"),
        (GOOD.replace("package://", "ftp://"), "source is not valid"),
        ("toy-a: {model: toy}\n", "toy-a"),
        ("- toy-a\n", "expected a mapping"),
    ],
)
def test_a_slip_names_the_file_and_the_key(package, text, what):
    (package / "weights.yaml").write_text(text)
    with pytest.raises(ValueError, match=what):
        weights_from_yaml("listed/weights.yaml")


def test_the_catalogue_prints_the_figures_of_the_last_evaluation():
    found = json.loads((ROOT / "benchmarks" / "results" / "her2st-c5.json").read_text(encoding="utf-8"))
    scores = {s["row"]: s["figures"]["pcc_mean"] for s in found["scores"] if s["part"] == "top-250-mean"}
    (tiny,) = weights_from_yaml("stzoo.plugins.comtip/weights.yaml")
    rows = {"mlp": "comtip-tiny, mlp", "zero-shot": "comtip-tiny, zero-shot"}
    rows |= {"control (colour-texture, ridge)": "colour-texture, ridge"}
    listed = {f"her2st-c5, {key}: mean PCC of 250 genes": scores[row] for key, row in rows.items()}
    assert tiny.metrics == pytest.approx(listed, abs=0.0006)
