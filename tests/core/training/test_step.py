"""Micro-batches and precision."""

from __future__ import annotations

import json

import pytest
import torch
from resumable_run import Toy
from stzoo.core.errors import ConfigError, UsageError
from stzoo.core.training import run as train_run
from stzoo.core.training.loop import fit


def weights(task):
    return {name: tensor.clone() for name, tensor in task.module().state_dict().items()}


def bit_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Seen(Toy):
    """The toy, which remembers the first number of each batch and whether autocast was on."""

    def __init__(self):
        super().__init__()
        self.first, self.halved = [], []

    def losses(self, step, generator):
        self.first.append(float(torch.randn(1, generator=generator.clone_state())))
        self.halved.append(torch.is_autocast_enabled("cpu"))
        return super().losses(step, generator)


def test_every_micro_batch_has_a_generator_of_its_own(tmp_path):
    task = Seen()
    fit(task, out=tmp_path, steps=3, seed=3, accumulate=4)
    assert len(set(task.first)) == 12


def test_a_mean_over_equal_micro_batches_is_one_of_them(tmp_path):
    class Same(Toy):
        def losses(self, step, generator):
            torch.manual_seed(step)  # the same dropout, and the same data
            return super().losses(step, torch.Generator().manual_seed(step))

    one, four = Same(), Same()
    want = fit(one, out=tmp_path / "one", steps=4, seed=3)
    got = fit(four, out=tmp_path / "four", steps=4, seed=3, accumulate=4)
    assert got.losses == pytest.approx(want.losses, rel=1e-5)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(four)[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_resume_accumulates_as_before(tmp_path):
    parts, whole = Toy(), Toy()
    fit(Toy(), out=tmp_path / "a", steps=2, seed=3, accumulate=3)
    fit(parts, out=tmp_path / "a", steps=5, seed=3, accumulate=3, resume=True)
    fit(whole, out=tmp_path / "b", steps=5, seed=3, accumulate=3)
    assert bit_equal(weights(parts), weights(whole))
    with pytest.raises(ConfigError, match="accumulate: 3 in the checkpoint, 2 now"):
        fit(Toy(), out=tmp_path / "a", steps=6, seed=3, accumulate=2, resume=True)
    with pytest.raises(UsageError, match="accumulate is 0"):
        fit(Toy(), out=tmp_path / "c", steps=6, seed=3, accumulate=0)


def test_bf16_is_used_and_fp32_is_the_default(tmp_path):
    for precision in ("fp32", "bf16"):
        task = Seen()
        fit(task, out=tmp_path / precision, steps=2, seed=3, precision=precision)
        assert task.halved == [precision == "bf16"] * 2


@pytest.mark.parametrize("choice", ["fp32", "bf16"])
def test_what_was_measured_to_be_faster_is_kept_by_a_resume(tmp_path, monkeypatch, choice):
    monkeypatch.setattr(train_run, "faster", lambda step: choice)
    fit(Toy(), out=tmp_path, steps=2, seed=3, precision="auto")
    monkeypatch.setattr(train_run, "faster", lambda step: pytest.fail("chosen twice"))
    task = Seen()
    fit(task, out=tmp_path, steps=4, seed=3, precision="auto", resume=True)
    assert task.halved == [choice == "bf16"] * 2
    about = json.loads((tmp_path / "checkpoints" / "00000004" / "checkpoint.json").read_text())
    assert about["run"]["precision"] == choice


def test_measuring_changes_nothing_of_the_run(tmp_path):
    task, plain = Toy(), Toy()
    fit(task, out=tmp_path / "auto", steps=3, seed=3, precision="auto")
    about = json.loads((tmp_path / "auto" / "checkpoints" / "00000003" / "checkpoint.json").read_text())
    fit(plain, out=tmp_path / "plain", steps=3, seed=3, precision=about["run"]["precision"])
    assert bit_equal(weights(task), weights(plain))
