"""Validation while a run goes on: early stop, the best weights, and that stopping changes nothing."""

from __future__ import annotations

import csv

import pytest
import torch
from resumable_run import Toy
from stzoo.core.errors import ConfigError, UsageError, WeightsError
from stzoo.core.training.loop import Fit, TrainingError, Validation, fit


def judge(task, **options):
    """Validate on fixed data; dropout is off there, or the metric would not be the same twice."""
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))

    def score():
        assert not torch.is_grad_enabled()
        assert not task.everything.training
        torch.rand(3)  # must not be felt by the training
        error = (task.everything["network"](x)[:, 0] - x.sum(1)).square().mean()
        return {"pcc": -float(error), "error": float(error)}

    return Validation(score, **{"every": 3, **options})


def scripted(metrics):
    given = iter(metrics)
    return lambda: {"pcc": next(given)}


def rows(file):
    with file.open() as lines:
        return list(csv.DictReader(lines))


def bit_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def weights(task):
    return {name: tensor.clone() for name, tensor in task.module().state_dict().items()}


def test_validation_changes_nothing_of_the_training(tmp_path):
    plain, judged = Toy(), Toy()
    want = fit(plain, out=tmp_path / "plain", steps=10, seed=3)
    got = fit(judged, out=tmp_path / "judged", steps=10, seed=3, validation=judge(judged, keep_best=False))
    assert bit_equal(weights(plain), weights(judged))
    assert got.losses == want.losses
    assert want == Fit(want.losses, 10)
    assert [row["step"] for row in rows(tmp_path / "judged" / "validation.csv")] == ["3", "6", "9", "10"]
    assert not (tmp_path / "judged" / "best").exists()


def test_ends_with_the_weights_of_the_best_validation(tmp_path):
    task, at_best = Toy(), Toy()
    done = fit(task, out=tmp_path / "a", steps=12, seed=3, validation=Validation(scripted([0.1, 0.3, 0.2, 0.25]), 3))
    assert done == Fit(done.losses, 12, best_step=6, validation={"pcc": 0.3})
    fit(at_best, out=tmp_path / "b", steps=6, seed=3)
    assert bit_equal(weights(task), weights(at_best))
    assert [p.name for p in (tmp_path / "a" / "best").iterdir()] == ["00000006"]


def test_patience_ends_a_run_and_a_resume_does_not_start_it_again(tmp_path):
    def run(resume=False):
        task = Toy()
        metrics = scripted([0.1, 0.3, 0.2, 0.3, 0.9])
        return fit(task, out=tmp_path, steps=30, seed=3, resume=resume, validation=Validation(metrics, 2, 2)), task

    (done, task), (again, same) = run(), run(resume=True)
    assert done == again == Fit(done.losses, 8, best_step=4, validation={"pcc": 0.3}, stopped_early=True)
    assert bit_equal(weights(task), weights(same))


@pytest.mark.parametrize("stop", [2, 3, 5, 9, 11, 12])
def test_a_run_stopped_anywhere_validates_and_ends_alike(tmp_path, stop):
    def go(name, steps, resume=False, every=100):
        task = Toy()
        validation = judge(task, patience=2)
        torch.set_num_threads(1)
        done = fit(
            task, out=tmp_path / name, steps=steps, seed=3, resume=resume, checkpoint_every=every, validation=validation
        )
        return weights(task), done

    want = go("whole", 30)
    task = Toy()
    after = task.after_step

    def die(step):
        after(step)
        if step == stop:
            raise EOFError

    task.after_step = die
    with pytest.raises(EOFError):
        fit(
            task,
            out=tmp_path / "parts",
            steps=30,
            seed=3,
            checkpoint_every=4,
            validation=judge(task, patience=2),
        )
    got = go("parts", 30, resume=True)
    assert bit_equal(got[0], want[0])
    assert got[1] == want[1]
    assert rows(tmp_path / "parts" / "validation.csv") == rows(tmp_path / "whole" / "validation.csv")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"error": 1.0}, "validation after step 3: no metric 'pcc'"),
        ({"pcc": float("nan")}, "validation after step 3: pcc = nan"),
    ],
)
def test_metrics_that_can_not_be_used(tmp_path, metrics, message):
    with pytest.raises(TrainingError, match=message):
        fit(Toy(), out=tmp_path, steps=5, seed=3, validation=Validation(lambda: metrics, 3))


def test_options_that_can_not_be_meant():
    with pytest.raises(UsageError, match="validation every 0 steps"):
        Validation(dict, 0)
    with pytest.raises(UsageError, match="patience is -1"):
        Validation(dict, 1, -1)


def test_another_patience_is_another_run(tmp_path):
    fit(Toy(), out=tmp_path, steps=4, seed=3, validation=Validation(scripted([0.1, 0.2]), 2))
    with pytest.raises(ConfigError, match=r"validation.patience: 0 in the checkpoint, 3 now"):
        fit(Toy(), out=tmp_path, steps=6, seed=3, resume=True, validation=Validation(scripted([]), 2, 3))


def test_best_weights_that_are_damaged_are_refused(tmp_path):
    fit(Toy(), out=tmp_path, steps=4, seed=3, validation=Validation(scripted([0.2, 0.1]), 2))
    (tmp_path / "best" / "00000002" / "state.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="best validation can not be read"):
        fit(Toy(), out=tmp_path, steps=4, seed=3, resume=True, validation=Validation(scripted([]), 2))
