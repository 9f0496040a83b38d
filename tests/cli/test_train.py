"""``stzoo train``, alone and under torchrun, by a recipe that takes seconds."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

RECIPE = """
sections: [a.zarr]
config:
  embedding_dim: 16
  vision: {tile_px: 64, width: 24, depth: 1, heads: 2}
  text: {width: 16, depth: 1, heads: 2, pieces: 60}
  train: {steps: 4, batch: 12, genes: 8, ranked_genes: 8, views: 1, warmup: 1, checkpoint_every: 2}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(synthetic_section(side_um=1200, seed=1, name="a"), folder / "a.zarr")
    write(synthetic_section(side_um=1200, seed=2, name="b"), folder / "b.zarr")
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def arguments(data: Path, out: Path, *more: object) -> list[str]:
    given = ["train", "comtip", "--config", data / "small.yaml", "--data", data, "--out", out, *more]
    return [str(one) for one in given]


def losses(out: Path) -> list[dict[str, float]]:
    with (out / "run" / "log.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_an_unknown_tracker_is_refused_before_anything_is_read(stzoo, data, tmp_path):
    found = stzoo(*arguments(data, tmp_path / "out", "--tracker", "tensorbord"))
    assert found.code == 2
    assert "no tracker called 'tensorbord'; did you mean 'tensorboard'?" in found.err
    assert not (tmp_path / "out").exists()


def test_a_tracker_is_told(stzoo, data, tmp_path):
    pytest.importorskip("tensorboard")
    found = stzoo(*arguments(data, tmp_path / "out", "--tracker", "tensorboard"))
    assert found.code == 0, found.err
    assert list((tmp_path / "out" / "run" / "tensorboard").glob("events.*"))
    again = stzoo(*arguments(data, tmp_path / "out"))
    assert again.code == 1
    assert "holds a finished run already" in again.err


def test_held_out_sections_choose_the_weights(stzoo, data, tmp_path):
    pytest.importorskip("tensorboard")
    often = ("--set", "train.validate_every=2", "--tracker", "tensorboard")
    found = stzoo(*arguments(data, tmp_path / "out", "--validate", "b.zarr", *often))
    assert found.code == 0, found.err
    assert "Kept: the weights after step" in found.out
    with (tmp_path / "out" / "run" / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    card = (tmp_path / "out" / "weights" / "README.md").read_text()
    assert "## Chosen by validation" in card
    assert "on b:" in card
    said = json.loads((tmp_path / "out" / "weights" / "config.json").read_text())["description"]["validated"]
    assert said["sections"] == ["b"]


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("a.zarr", 2, "'a' is to validate, and is trained on as well"),
        ("c.zarr", 1, "no 'c.zarr' in"),
    ],
)
def test_sections_that_can_not_validate(stzoo, data, tmp_path, given, code, message):
    found = stzoo(*arguments(data, tmp_path / "out", "--validate", given))
    assert found.code == code
    assert message in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "out").exists()


def test_a_model_that_can_not_be_judged_says_so(stzoo, data, tmp_path, monkeypatch):
    from stzoo.plugins.comtip.model import CoMTIP

    def train(self, sections, *, out, resume=False, progress=True):
        raise AssertionError  # an older plugin's: it must not come to this

    monkeypatch.setattr(CoMTIP, "train", train)
    found = stzoo(*arguments(data, tmp_path / "out", "--validate", "b.zarr"))
    assert found.code == 2
    assert "'comtip' can not be judged while it trains" in found.err


@pytest.mark.slow
def test_the_same_command_runs_under_torchrun(stzoo, data, tmp_path):
    judged = ("--validate", "b.zarr", "--set", "train.validate_every=2")
    assert stzoo(*arguments(data, tmp_path / "one", *judged)).code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    console = shutil.which("stzoo", path=str(Path(sys.executable).parent))
    assert console
    done = subprocess.run(
        [*launch, console, *arguments(data, tmp_path / "two", *judged)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    for want, got in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert got == pytest.approx(want, abs=1e-4, rel=1e-4)
    configs = [json.loads((tmp_path / name / "weights" / "config.json").read_text()) for name in ("one", "two")]
    metrics = [config["description"].pop("validated").pop("figures") for config in configs]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-3)
    assert configs[0] == configs[1]
