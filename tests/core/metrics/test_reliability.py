"""Confidence lies on the diagonal where it is the share of variance that predictions explain."""

from __future__ import annotations

import numpy as np
import pytest
from stzoo.core.errors import UsageError
from stzoo.core.metrics.confidence import reliability


def test_a_confidence_that_says_what_came_true_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    truth, error = rng.normal(size=(200, 5)), rng.normal(size=(200, 5))
    variance = np.array([1.0, 4.0, 0.25, 9.0, 2.0])
    curve = reliability(truth, truth + error, 1 - error**2 / variance, variance)
    assert curve.shape == (10, 3)
    assert curve[:, 2].sum() == truth.size
    assert (np.diff(curve[:, 0]) > 0).all()
    np.testing.assert_allclose(curve[:, 0], curve[:, 1], atol=1e-12)


def test_too_much_confidence_lies_beyond_what_was_explained():
    truth = np.random.default_rng(1).normal(size=(50, 2))
    variance = truth.var(axis=0)
    curve = reliability(truth, np.zeros_like(truth) + truth.mean(axis=0), np.full_like(truth, 0.9), variance)
    np.testing.assert_allclose(curve[:, 0], 0.9)
    assert np.average(curve[:, 1], weights=curve[:, 2]) == pytest.approx(0)  # the mean explains nothing


def test_genes_that_do_not_vary_and_missing_values():
    truth = np.random.default_rng(2).normal(size=(3, 2))
    one = reliability(truth, truth, np.full((3, 2), 0.5), np.array([0.0, 1.0]))
    assert one.tolist() == [[0.5, 1.0, 1.0]] * 3  # fewer values than pools; the first gene is left out
    assert reliability(truth, truth, np.ones((3, 2)), np.zeros(2)).shape == (0, 3)
    with pytest.raises(UsageError, match="not finite"):
        reliability(truth, np.full((3, 2), np.nan), np.ones((3, 2)), np.ones(2))
