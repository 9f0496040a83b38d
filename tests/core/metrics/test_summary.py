"""The scores of a table row, and what can not be scored."""

from __future__ import annotations

import numpy as np
import pytest
from stzoo.core.errors import UsageError
from stzoo.core.metrics.summary import mean_pcc, summarise

RNG = np.random.default_rng(0)


def test_errors_of_a_table_row():
    truth = np.array([[0.0, 1.0], [2.0, 3.0]])
    row = summarise(truth, truth + np.array([[1.0, -1.0], [3.0, 1.0]]))
    assert (row["mse"], row["mae"], row["rmse"]) == (3.0, 1.5, np.sqrt(3.0))
    assert (row["genes"], row["spots"]) == (2, 2)


def test_nothing_varies():
    row = summarise(np.ones((5, 2)), RNG.normal(size=(5, 2)))
    assert np.isnan(row["pcc_mean"])
    assert row["constant_genes"] == 2


@pytest.mark.parametrize(
    ("truth", "guess", "words"),
    [
        (np.ones((3, 2)), np.ones((2, 3)), "shape"),
        (np.ones(3), np.ones(3), "shape"),
        (np.ones((3, 1)), np.full((3, 1), np.nan), "prediction has 3 values"),
        (np.full((3, 1), np.inf), np.ones((3, 1)), "truth has 3 values"),
    ],
)
def test_what_can_not_be_scored_is_refused(truth, guess, words):
    with pytest.raises(UsageError, match=words):
        summarise(truth, guess)


def test_what_is_predicted_as_a_constant_counts_nothing_in_the_mean():
    truth = RNG.normal(size=(20, 3))
    truth[:, 2] = 4.0  # no correlation: left out
    guess = truth.copy()
    guess[:, 1] = 7.0
    assert mean_pcc(truth, guess) == pytest.approx(0.5)
    assert summarise(truth, guess)["pcc_mean"] == pytest.approx(0.5)
    assert np.isnan(mean_pcc(np.ones((5, 2)), np.ones((5, 2))))
