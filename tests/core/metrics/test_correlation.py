"""Correlations against scipy, and what happens to genes that do not vary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from stzoo.core.metrics.correlation import concatenated_pcc, is_constant, per_gene_pcc
from stzoo.core.metrics.summary import summarise

RNG = np.random.default_rng(0)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 60), g=st.integers(1, 8), offset=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_pcc_is_that_of_scipy(n, g, offset, seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, g)) + offset
    guess = truth + rng.normal(size=(n, g))
    expected = [pearsonr(truth[:, i], guess[:, i]).statistic for i in range(g)]
    np.testing.assert_allclose(per_gene_pcc(truth, guess), expected, atol=1e-9)
    np.testing.assert_allclose(per_gene_pcc(truth, 3 * guess + 7), expected, atol=1e-8)


def test_constant_genes_are_reported():
    truth = RNG.normal(size=(20, 4))
    guess = truth.copy()
    truth[:, 1] = 5.0
    guess[:, 2] = 0.1
    pcc = per_gene_pcc(truth, guess)
    assert np.isnan(pcc[[1, 2]]).all()
    np.testing.assert_allclose(pcc[[0, 3]], 1)
    row = summarise(truth, guess)
    assert row["constant_genes"] == 1
    assert row["constant_predictions"] == 1
    assert row["pcc_mean"] == pytest.approx(2 / 3)  # the flat prediction counts as 0, the flat truth not at all
    assert row["pcc_median"] == pytest.approx(1)


def test_rounding_noise_is_constant():
    values = np.full((50, 1), 0.1, dtype=np.float32) + RNG.normal(size=(50, 1)).astype(np.float32) * 1e-8
    assert is_constant(values).all()
    assert np.isnan(per_gene_pcc(values, RNG.normal(size=(50, 1)))).all()


def test_one_correlation_over_everything_is_that_of_scipy():
    truth, guess = RNG.normal(size=(2, 12, 3)) + np.array([0, 50, 100])
    assert concatenated_pcc(truth, guess) == pytest.approx(pearsonr(truth.ravel(), guess.ravel()).statistic)
    assert np.isnan(concatenated_pcc(np.ones((4, 2)), guess[:4, :2]))
