"""The MLP head."""

from __future__ import annotations

import tempfile
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from stzoo.core.errors import WeightsError
from stzoo.core.heads.mlp import MLPHead
from stzoo.core.heads.mlp_nets import STEPS, Nets
from stzoo.core.heads.mlp_training import train_nets
from stzoo.core.heads.ridge import RidgeHead
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.training.loop import TrainingError

GENES = ("A", "B", "C")


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Expression that is even in the embedding: no linear map tells it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(np.float32)
    y = 2 + np.stack([np.abs(x[:, 0]), np.abs(x[:, 1] + 0.2), x[:, 2]], axis=1) + 0.1 * rng.standard_normal((n, 3))
    return x, y.astype(np.float32)


@pytest.fixture(scope="module")
def head() -> MLPHead:
    x, y = data(400, 0)
    return MLPHead.fit(x, y, np.repeat([0, 1], 200), GENES, seed=1)


def test_it_learns_what_no_linear_head_can(head: MLPHead) -> None:
    x, y = data(300, 5)
    linear = RidgeHead.fit(*data(400, 0), np.repeat([0, 1], 200), GENES)
    mlp_pcc, ridge_pcc = (per_gene_pcc(y, one.predict(x).values) for one in (head, linear))
    assert mlp_pcc[0] > ridge_pcc[0] + 0.2
    assert mlp_pcc[2] > 0.8


def test_same_seed_same_bits_other_seed_others(head: MLPHead) -> None:
    x, y = data(400, 0)
    group = np.repeat([0, 1], 200)
    assert np.array_equal(MLPHead.fit(x, y, group, GENES, seed=1).nets.first, head.nets.first)
    assert not np.array_equal(MLPHead.fit(x, y, group, GENES, seed=2).nets.first, head.nets.first)


def test_what_is_seen_on_the_way_is_what_a_shorter_training_ends_with() -> None:
    x, y = (one.astype(float) for one in data(100, 2))
    seen: dict[int, Nets] = {}
    last = train_nets(x, y, 90, 3, seen.__setitem__)
    assert list(seen) == [30, 60, 90]
    for steps, nets in seen.items():
        for part, shorter in zip(astuple(nets), astuple(train_nets(x, y, steps, 3)), strict=True):
            assert np.array_equal(part, shorter)
    assert np.array_equal(seen[90].first, last.first)
    assert not np.array_equal(seen[60].first, last.first)


def test_the_steps_are_those_that_predict_the_section_left_out_best() -> None:
    x, y = data(60, 4)
    y += np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)  # so that training too long does harm
    group = np.repeat([0, 1], 30)
    scores = np.zeros(len(STEPS))
    for out in (0, 1):
        train = group != out
        mean, scale, bias, spread = (getattr(v[train], how)(0) for v in (x, y) for how in ("mean", "std"))
        at: list[Nets] = []
        train_nets(
            (x[train] - mean) / scale, (y[train] - bias) / spread, STEPS[-1], 1, lambda _, nets, at=at: at.append(nets)
        )
        held_out = ((x[~train] - mean) / scale).astype(np.float32)
        scores += [np.mean(per_gene_pcc(y[~train], nets(held_out, range(3))[0])) for nets in at]
    head = MLPHead.fit(x, y, group, GENES, seed=1)
    assert head.steps == STEPS[scores.argmax()]
    assert head.steps < STEPS[-1]


def test_a_fit_leaves_the_generator_and_the_disk_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    MLPHead.fit(*data(40, 1), np.zeros(40, dtype=np.intp), GENES)
    assert torch.equal(torch.rand(3), expected)
    assert list(tmp_path.iterdir()) == []


def test_expression_that_is_not_finite_is_refused() -> None:
    x, y = data(40, 1)
    y[3, 1] = np.nan
    with pytest.raises(TrainingError, match="loss = nan"):
        MLPHead.fit(x, y, np.zeros(40, dtype=np.intp), GENES)


def test_uncertainty_is_never_below_the_held_out_error(head: MLPHead) -> None:
    x, _ = data(50, 7)
    near, far = head.predict(x), head.predict(10 * x)
    assert near.uncertainty is not None
    assert far.uncertainty is not None
    assert (near.uncertainty >= head.error - 1e-6).all()
    assert far.uncertainty.mean() > near.uncertainty.mean()  # the networks disagree where they were not trained


def test_saved_tensors_give_the_same_bits_and_wrong_ones_are_refused(head: MLPHead) -> None:
    x, _ = data(20, 8)
    again = MLPHead.restored(head.tensors(), head.description())
    assert np.array_equal(again.predict(x, ["C", "A"]).values, head.predict(x, ["C", "A"]).values)
    for broken in (
        {k: v for k, v in head.tensors().items() if k != "second"},
        {**head.tensors(), "more": np.zeros(1)},
        {**head.tensors(), "second": np.zeros((5, 2, 3), np.float16)},
    ):
        with pytest.raises(WeightsError):
            MLPHead.restored(broken, head.description())
