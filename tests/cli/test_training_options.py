"""``--accumulate`` and ``--precision`` of ``stzoo train`` and ``stzoo finetune``: used, recorded, kept by a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.training import loop, run

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
    for seed in range(3):
        section = synthetic_section(side_um=1000, pitch_um=100, seed=seed, name="abc"[seed])
        section.adata.obs["patient"] = "AAB"[seed]
        write(section, folder / f"{'abc'[seed]}.zarr")
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def train(data, out, *more):
    return ["train", "comtip", "--config", data / "small.yaml", "--data", data, "--out", out, *more]


def finetune(data, out, *more):
    few = ("--set", "rates.steps=2", "--set", "rates.batch=12", "--set", "validations=1")
    given = ["--test", data / "c.zarr", "--tune", "full", "--genes", "ERBB2,CD74"]
    return ["finetune", "comtip-tiny", data / "a.zarr", *given, "--out", out, *few, *more]


def last_checkpoint(out):
    folder = sorted((out / "run" / "checkpoints").iterdir())[-1]
    return json.loads((folder / "checkpoint.json").read_text())


def first_loss(out):
    return (out / "run" / "log.csv").read_text().splitlines()[1].split(",")[1]


@pytest.fixture
def draws(monkeypatch):
    """Count the batches that training draws, and say in what each is computed."""
    from stzoo.plugins.comtip.training import Objective

    seen = []
    whole = Objective.draw

    def draw(self, size, generator):
        seen.append((size, torch.is_autocast_enabled("cpu")))
        return whole(self, size, generator)

    monkeypatch.setattr(Objective, "draw", draw)
    return seen


def test_train_accumulates_and_says_so(stzoo, data, tmp_path, draws):
    assert stzoo(*train(data, tmp_path / "one")).code == 0
    assert draws == [(12, False)] * 4
    draws.clear()
    done = stzoo(*train(data, tmp_path / "two", "--accumulate", "2"))
    assert done.code == 0, done.err
    assert draws == [(12, False)] * 8  # twice the spots a step
    assert first_loss(tmp_path / "one") != first_loss(tmp_path / "two")
    assert "2 micro-batches a step" in done.out
    assert last_checkpoint(tmp_path / "two")["identity"]["accumulate"] == 2
    config = json.loads((tmp_path / "two" / "weights" / "config.json").read_text())["config"]
    assert config["train"]["accumulate"] == 2
    assert "2 micro-batches a step" in (tmp_path / "two" / "weights" / "README.md").read_text()
    assert "micro-batch" not in (tmp_path / "one" / "weights" / "README.md").read_text()


class StopError(Exception):
    """Ends a run after its second checkpoint."""


def stop_after(monkeypatch, step):
    save = run.Run.save

    def saved(self, done):
        save(self, done)
        if done == step:
            raise StopError

    monkeypatch.setattr(run.Run, "save", saved)


def test_bf16_is_recorded_and_resumed_and_another_one_refused(stzoo, data, tmp_path, draws):
    assert loop.Precision.read("bf16") is loop.Precision.bf16
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    done = stzoo(*train(data, whole, "--precision", "bf16"))
    assert done.code == 0, done.err
    assert "computed in bf16" in done.out
    assert draws == [(12, True)] * 4
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        assert stzoo(*train(data, parts, "--precision", "bf16")).code == 1
    assert last_checkpoint(parts)["run"]["precision"] == "bf16"
    for other in ("fp32", "auto"):
        refused = stzoo(*train(data, parts, "--precision", other, "--resume"))
        assert refused.code == 2
        assert f'precision: "bf16" in the checkpoint, "{other}" now' in refused.err
    refused = stzoo(*train(data, parts, "--precision", "bf16", "--accumulate", "2", "--resume"))
    assert "accumulate: 1 in the checkpoint, 2 now" in refused.err
    assert stzoo(*train(data, parts, "--precision", "bf16", "--resume")).code == 0
    weights = [(folder / "weights" / "model.safetensors").read_bytes() for folder in (whole, parts)]
    assert weights[0] == weights[1]


def test_what_auto_chose_is_said(stzoo, data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "faster", lambda step: loop.Precision.bf16)
    done = stzoo(*train(data, tmp_path / "out", "--precision", "auto"))
    assert done.code == 0, done.err
    assert "computed in bf16" in done.out


def test_a_recipe_has_both_keys(stzoo, data, tmp_path, draws):
    recipe = data / "both.yaml"
    recipe.write_text(RECIPE.replace("{steps: 4,", "{steps: 1, accumulate: 3, precision: bf16,"))
    done = stzoo("train", "comtip", "--config", recipe, "--data", data, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert draws == [(12, True)] * 3


@pytest.mark.parametrize("command", [train, finetune])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "bf61"], "no precision 'bf61'; did you mean 'bf16'?"),
        (["--accumulate", "0"], "--accumulate"),
        (["--accumulate", "many"], "--accumulate"),
    ],
)
def test_bad_values_are_refused_and_leave_nothing(stzoo, data, tmp_path, command, options, message):
    done = stzoo(*command(data, tmp_path / "out", *options))
    assert done.code == 2
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_steps_says_so(stzoo, data, tmp_path):
    recipe = data / "none.yaml"
    recipe.write_text("sections: [a.zarr]\n")
    given = ["--config", recipe, "--data", data, "--out", tmp_path / "out"]
    done = stzoo("train", "colour-texture", *given, "--accumulate", "2")
    assert (done.code, "'colour-texture' has no option train.accumulate" in done.err) == (2, True)


def test_finetune_accumulates_in_bf16_and_says_so(stzoo, data, tmp_path, draws):
    done = stzoo(*finetune(data, tmp_path / "out", "--accumulate", "2", "--precision", "bf16"))
    assert done.code == 0, done.err
    assert draws == [(12, True)] * 4
    assert "at most 2 of 2 x 12 spots" in done.out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["settings"]["accumulate"], report["settings"]["precision"]) == (2, "bf16")
    assert report["run"]["precision"] == "bf16"
    assert "2 steps of 2 x 12 spots in bf16" in (tmp_path / "out" / "report.md").read_text()


def test_a_dry_run_counts_every_micro_batch(stzoo, data, tmp_path):
    done = stzoo(*finetune(data, tmp_path / "out", "--set", "accumulate=3", "--precision", "auto", "--dry-run"))
    assert done.code == 0, done.err
    assert "at most 2 of 3 x 12 spots" in done.out
    assert "precision: auto" in done.out
