"""CoMTIP judged on held-out sections while it trains: what is scored, what is kept, and that nothing else changes."""

from __future__ import annotations

import csv
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from comtip_validated_run import CONFIG, TRAIN, rank, tissue, train
from safetensors.torch import load_file
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, UsageError
from stzoo.core.metrics.summary import mean_pcc
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.plugins.comtip.training import CoMTIPTask, Examiner


@pytest.fixture(scope="module")
def learned() -> list[Section]:
    return [tissue(0)]


@pytest.fixture(scope="module")
def held() -> Section:
    return tissue(1)


def rows(file: Path) -> list[dict[str, float]]:
    with file.open() as lines:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def same(one: CoMTIP, other: CoMTIP) -> bool:
    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], list[dict[str, torch.Tensor]]]:
    """Let validation say given scores; return the weights that it was shown."""

    def script(metrics: list[float]) -> list[dict[str, torch.Tensor]]:
        given: Iterator[float] = iter(metrics)
        shown: list[dict[str, torch.Tensor]] = []

        def score(self: Examiner) -> dict[str, float]:
            shown.append({name: t.clone() for name, t in self.weights.network.state_dict().items()})
            return {"zero_shot_pcc": next(given), "ridge_pcc": 0.0}

        monkeypatch.setattr(Examiner, "__call__", score)
        return shown

    return script


def test_the_figures_are_those_of_a_prediction_with_the_weights(
    learned: list[Section], held: Section, tmp_path: Path
) -> None:
    model = train(tmp_path, learned, [held], validate_every=3)
    found = rows(tmp_path / "validation.csv")
    assert [row["step"] for row in found] == [3, 6]
    kept = next(row for row in found if row["step"] == found[-1]["best_step"])
    genes = model.genes("zero-shot")
    truth = held.expression(genes, target=1e4)
    for head, metric in (("zero-shot", "zero_shot_pcc"), ("ridge", "ridge_pcc")):
        predicted = model.predict(held, genes, head=head).values
        assert mean_pcc(truth, predicted) == pytest.approx(kept[metric], abs=5e-3), head  # they were rounded since
    assert model.validated["figures"] == {name: round(kept[name], 4) for name in ("zero_shot_pcc", "ridge_pcc")}


def test_training_does_not_feel_it(learned: list[Section], held: Section, tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", learned, [])
    judged = train(tmp_path / "judged", learned, [held], validate_every=1)
    assert rows(tmp_path / "plain" / "log.csv") == rows(tmp_path / "judged" / "log.csv")
    assert plain.validated == {}
    assert not (tmp_path / "plain" / "validation.csv").exists()
    assert judged.validated["step"] in range(1, 7)
    last = [
        load_file(tmp_path / name / "checkpoints" / "00000006" / "state.safetensors") for name in ("plain", "judged")
    ]
    assert last[0].keys() == last[1].keys()
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_the_averaged_weights_are_judged_and_the_best_are_kept(
    learned: list[Section], held: Section, tmp_path: Path, scripted: Any
) -> None:
    shown = scripted([0.1, 0.3, 0.2])
    model = train(tmp_path, learned, [held])
    assert len(shown) == 3
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, shown[1][name].half().float()), name
    said = {"watched": "zero_shot_pcc", "figures": {"zero_shot_pcc": 0.3, "ridge_pcc": 0.0}}
    expected = {"sections": ["s1"], "same_patient": False, **said, "step": 4, "steps": 6, "planned": 6}
    assert model.validated == expected
    assert CoMTIP.load(model.save(tmp_path / "weights")).validated == expected
    model.adopt_tuned(learned)
    assert model.validated == {}


def test_patience_ends_the_run(learned: list[Section], held: Section, tmp_path: Path, scripted: Any) -> None:
    scripted([0.3, 0.2, 0.1])
    model = train(tmp_path, learned, [held], validate_every=1, patience=2)
    assert (model.validated["step"], model.validated["steps"]) == (1, 3)
    assert len(rows(tmp_path / "log.csv")) == 3


@pytest.mark.parametrize("stop", [2, 4])
def test_a_stopped_run_ends_with_the_same_bits(
    stop: int, learned: list[Section], held: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"validate_every": 2, "checkpoint_every": 2, "patience": 3}
    want = train(tmp_path / "whole", learned, [held], **options)
    after = CoMTIPTask.after_step

    def die(self: CoMTIPTask, step: int) -> None:
        after(self, step)
        if step == stop:
            raise EOFError

    with monkeypatch.context() as dying:
        dying.setattr(CoMTIPTask, "after_step", die)
        with pytest.raises(EOFError):
            train(tmp_path / "parts", learned, [held], **options)
    got = train(tmp_path / "parts", learned, [held], resume=True, **options)
    assert same(want, got)
    assert want.validated == got.validated
    for name in ("log.csv", "validation.csv"):
        assert rows(tmp_path / "whole" / name) == rows(tmp_path / "parts" / name)
    with pytest.raises(ConfigError, match="validated_on"):
        train(tmp_path / "parts", learned, [replace(tissue(2), name="other")], resume=True, **options)
    with pytest.raises(ConfigError, match="validation"):
        train(tmp_path / "parts", learned, [], resume=True, **options)


def test_hidden_counts_of_the_held_out_section_do_not_matter(
    learned: list[Section], held: Section, tmp_path: Path
) -> None:
    measured = np.arange(len(held)) % 3 > 0
    poisoned = held.take(np.arange(len(held)))
    x = poisoned.adata.X.toarray()
    x[~measured] = 1e6
    poisoned.adata.X = x
    poisoned.adata.obs["measured"] = measured
    train(tmp_path / "hidden", learned, [held.hide(measured)], steps=2)
    train(tmp_path / "poisoned", learned, [poisoned], steps=2)
    assert rows(tmp_path / "hidden" / "validation.csv") == rows(tmp_path / "poisoned" / "validation.csv")


def test_a_figure_that_says_nothing_is_refused(learned: list[Section], held: Section, tmp_path: Path) -> None:
    objective = {"contrast": 0.0, "ranking": 0.0, "correlation": 0.0}
    model = CoMTIP({**CONFIG, "objective": objective, "train": TRAIN})
    with pytest.raises(ConfigError, match=r"train\.watch=ridge_pcc"):
        model.train(learned, out=tmp_path / "a", validation=[held], progress=False)
    model = CoMTIP({**CONFIG, "objective": objective, "train": {**TRAIN, "watch": "ridge_pcc"}})
    model.train(learned, out=tmp_path / "b", validation=[held], progress=False)
    assert model.validated["watched"] == "ridge_pcc"


def test_nothing_is_written_for_a_section_that_is_trained_on(learned: list[Section], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'s0' is to validate, and is trained on as well"):
        train(tmp_path / "run", learned, [tissue(0)])
    assert list(tmp_path.iterdir()) == []


def test_two_ranks_judge_as_one_does(learned: list[Section], held: Section, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train(tmp_path / "one", learned, [held], steps=2, validate_every=1)
    mp.spawn(rank, args=(port, tmp_path), nprocs=2)
    for name in ("copied", "sharded"):
        for want, got in zip(
            rows(tmp_path / "one" / "validation.csv"), rows(tmp_path / name / "validation.csv"), strict=True
        ):
            assert got == pytest.approx(want, abs=2e-3), name
