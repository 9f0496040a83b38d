"""CoMTIP tuned on own sections, through the public call."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stzoo
import torch
from comtip_tuned_run import CONFIG, tissue
from stzoo.core.data.section import Section
from stzoo.core.data.subsets import expression_of
from stzoo.core.errors import ConfigError, GeneError, OutputError, UsageError
from stzoo.core.finetuning import tuning
from stzoo.core.finetuning.controls import HEAD, OWN, TUNED, fit_carried_head, own_head
from stzoo.core.finetuning.plan import plan_finetuning
from stzoo.core.finetuning.settings import Settings, read_settings
from stzoo.core.finetuning.task import FinetuneTask
from stzoo.plugins.comtip.model import CoMTIP


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return [tissue(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def base(sections: list[Section], tmp_path_factory: pytest.TempPathFactory) -> CoMTIP:
    model = CoMTIP(CONFIG)
    model.train([tissue(7)], out=tmp_path_factory.mktemp("run"), progress=False)
    return model


def quick(tune: str, contrast: bool | None = None, *more: str) -> Settings:
    return read_settings(tune, contrast, ["rates.steps=6", "validations=3", "rates.warmup=1", *more])


def tuned(base: CoMTIP, sections: list[Section], out: Path, settings: Settings, **options: Any) -> Any:
    return stzoo.finetune(base, sections[:2], test=sections[2:], out=out, settings=settings, progress=False, **options)


def same(a: Any, b: Any) -> bool:
    one, other = a.state(), b.state()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_starts_at_what_the_head_alone_predicts(base: CoMTIP, sections: list[Section], tmp_path: Path) -> None:
    """The embedding that gradients flow through is that of ``embed``, and the first head is the fitted one."""
    plan = plan_finetuning(base, sections[:1], test=sections[2:], settings=quick("full"))
    piece = plan.split.train[0]
    whole = [replace(piece, spots=np.ones(len(piece.section), dtype=bool))]
    tunable = base.tunable(plan.select_sections(whole), cache=tmp_path)
    chosen, expected = torch.arange(len(piece.section)), base.embed(piece.section)
    seen = [tunable.batch(chosen, torch.Generator().manual_seed(s)).embedding.detach().numpy() for s in range(30)]
    base.network.requires_grad_(False)
    closest = min(seen, key=lambda one: float(np.abs(one - expected).max()))  # one of them is not turned
    np.testing.assert_allclose(closest, expected, atol=2e-3)
    head = fit_carried_head(base, whole, plan.scored, own_head(base))
    task = FinetuneTask(tunable, head, expression_of(whole, plan.scored), plan.settings.rates)
    with torch.no_grad():
        guess = task.head(torch.from_numpy(base.embed(piece.section))).clamp_min(0).numpy()
    np.testing.assert_allclose(guess, head.predict(base.embed(piece.section)).values, atol=1e-4)


@pytest.mark.parametrize(("way", "contrast"), [("full", False), ("full", True), ("lora", False), ("head", None)])
def test_every_way_ends_with_weights_that_load_and_a_report(
    way: str, contrast: bool | None, base: CoMTIP, sections: list[Section], tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in base.state().items()}
    done = tuned(base, sections, tmp_path / "out", quick(way, contrast, "rates.learning_rate=0.003"))
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state().items())  # the user's stay
    again = stzoo.load(done.weights)
    gene = done.report["genes"]["names"][:3]
    assert np.array_equal(again.predict(sections[2], gene).values, done.encoder.predict(sections[2], gene).values)
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [line["name"] for line in found["lines"]]
    assert {"gene mean", "kNN on colour-texture", "ridge on colour-texture", OWN, HEAD} <= set(names)
    assert found["kept"] in names
    assert found["verdict"] in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "report.png").stat().st_size > 20_000
    if way == "head":
        assert TUNED not in names
        return
    assert 0 < found["parameters"]["tuned"] <= found["parameters"]["network"]
    assert (found["parameters"]["tuned"] < found["parameters"]["network"]) == (not contrast)
    assert (found["kept"] == TUNED) == (found["validation"][TUNED] > found["validation"][HEAD] + 0.002)
    if found["kept"] == HEAD:  # then the network is the one of the start
        own = {k: v for k, v in again.state().items() if k.startswith("network.")}
        assert all(torch.equal(before[name], tensor) for name, tensor in own.items())


def test_a_stopped_run_goes_on_to_the_same_bits(
    base: CoMTIP, sections: list[Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick("lora", False, "rates.learning_rate=0.01")
    whole = tuned(base, sections, tmp_path / "whole", settings)
    judged, calls = tuning.mean_pcc, []

    def stopping(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judged(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "mean_pcc", stopping)
        with pytest.raises(KeyboardInterrupt):
            tuned(base, sections, tmp_path / "stopped", settings)
    assert not (tmp_path / "stopped" / "weights").exists()
    with pytest.raises(OutputError, match="--resume"):
        tuned(base, sections, tmp_path / "stopped", settings)
    with pytest.raises(ConfigError):  # another split, genes or settings are another run
        tuned(base, sections, tmp_path / "stopped", quick("lora", False, "rank=2"), resume=True)
    resumed = tuned(base, sections, tmp_path / "stopped", settings, resume=True)
    assert same(whole.encoder, resumed.encoder)
    assert whole.report == resumed.report
    with pytest.raises(OutputError, match="finished"):
        tuned(base, sections, tmp_path / "stopped", settings, resume=True)


def test_genes_outside_the_vocabulary_are_learned_and_named(
    base: CoMTIP, sections: list[Section], tmp_path: Path
) -> None:
    new = [gene for gene in sections[0].genes if gene not in base.genes("ridge")][:2]
    genes = [*base.genes("ridge")[:2], *new]
    done = tuned(base, sections, tmp_path / "out", quick("head"), genes=genes)
    assert set(done.report["genes"]["new"]) == set(new)
    assert done.encoder.predict(sections[2], new).values.shape == (len(sections[2]), 2)
    with pytest.raises(GeneError, match="ERBB2X"):
        tuned(base, sections, tmp_path / "other", quick("head"), genes=["ERBB2X"])
    assert not (tmp_path / "other").exists()


def test_the_test_spots_decide_nothing(base: CoMTIP, sections: list[Section], tmp_path: Path) -> None:
    """With other counts on the test section everything that is saved is the same, to the bit."""
    wrong = replace(sections[2], adata=sections[2].adata[::-1].copy(), source="wrong")
    wrong.adata.obsm["spatial"] = sections[2].pixels  # the right places with the counts of others
    settings = quick("full", False, "rates.learning_rate=0.003")
    one = tuned(base, sections, tmp_path / "one", settings)
    other = tuned(base, [*sections[:2], wrong], tmp_path / "other", settings)
    assert same(one.encoder, other.encoder)
    assert one.report["validation"] == other.report["validation"]
    assert one.report["lines"] != other.report["lines"]


def test_what_has_no_network_has_its_head_tuned(sections: list[Section], tmp_path: Path) -> None:
    plain = stzoo.model("colour-texture", role="encoder")
    with pytest.raises(UsageError, match="--tune head"):
        plain.tunable(sections, cache=tmp_path)
    with pytest.raises(UsageError, match="contrast"):
        read_settings("head", True)
    done = stzoo.finetune(plain, sections[:2], test=sections[2:], out=tmp_path / "out", progress=False)
    assert done.report["kept"] == HEAD
    assert OWN not in [line["name"] for line in done.report["lines"]]  # it came without a head
