"""The MLP head."""

from __future__ import annotations

import numpy as np
import pytest
from stzoo.core.errors import WeightsError
from stzoo.core.head_mlp import MLPHead, fit_mlp
from stzoo.core.head_ridge import fit_ridge
from stzoo.core.metrics import per_gene_pcc

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
    return fit_mlp(x, y, np.repeat([0, 1], 200), GENES, seed=1)


def test_it_learns_what_no_linear_head_can(head: MLPHead) -> None:
    x, y = data(300, 5)
    linear = fit_ridge(*data(400, 0), np.repeat([0, 1], 200), GENES)
    mlp_pcc, ridge_pcc = (per_gene_pcc(y, one.predict(x).values) for one in (head, linear))
    assert mlp_pcc[0] > ridge_pcc[0] + 0.2
    assert mlp_pcc[2] > 0.8


def test_same_seed_same_bits_other_seed_others(head: MLPHead) -> None:
    x, y = data(400, 0)
    group = np.repeat([0, 1], 200)
    assert np.array_equal(fit_mlp(x, y, group, GENES, seed=1).nets.first, head.nets.first)
    assert not np.array_equal(fit_mlp(x, y, group, GENES, seed=2).nets.first, head.nets.first)


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
