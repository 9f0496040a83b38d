"""Figures against scipy and scikit-image, and what happens to genes that do not vary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from skimage.metrics import structural_similarity
from stzoo.core.errors import UsageError
from stzoo.core.metrics.scores import is_constant, masked_ssim, per_gene_pcc, summarise, to_grid

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


def test_ssim_without_a_mask_is_that_of_scikit_image():
    truth = RNG.normal(size=(20, 30))
    guess = truth + 0.3 * RNG.normal(size=(20, 30))
    _, scores = structural_similarity(truth, guess, data_range=np.ptp(truth), full=True)
    assert masked_ssim(truth, guess, np.ones((20, 30), dtype=bool)) == pytest.approx(scores.mean())


def test_ssim_does_not_look_outside_the_mask():
    truth, guess = RNG.normal(size=(2, 16, 16))
    mask = RNG.random((16, 16)) < 0.6
    score = masked_ssim(truth, guess, mask)
    for image in (truth, guess):
        image[~mask] = np.nan
    assert masked_ssim(truth, guess, mask) == score
    assert masked_ssim(truth, truth, mask) == pytest.approx(1)


def test_ssim_of_flat_or_tiny_maps_is_undefined():
    assert np.isnan(masked_ssim(np.ones((9, 9)), np.ones((9, 9)), np.ones((9, 9), dtype=bool)))
    assert np.isnan(masked_ssim(np.eye(2), np.eye(2), np.ones((2, 2), dtype=bool)))
    assert np.isfinite(masked_ssim(np.eye(4), np.eye(4), np.ones((4, 4), dtype=bool)))
    with pytest.raises(UsageError, match="shapes differ"):
        masked_ssim(np.eye(3), np.eye(4), np.ones((4, 4), dtype=bool))


def test_grid_round_trip():
    row, col = np.array([4, 2, 2]), np.array([7, 7, 9])
    values = RNG.normal(size=(3, 2))
    grid, mask = to_grid(values, row, col)
    assert grid.shape == (3, 3, 2)
    assert mask.sum() == 3
    assert np.array_equal(grid[row - 2, col - 7], values)
    assert np.isnan(grid[~mask]).all()
    with pytest.raises(UsageError, match="share a place"):
        to_grid(values, np.array([1, 1, 2]), np.array([1, 1, 2]))


def test_similarity_may_be_averaged_over_some_of_the_places():
    rng = np.random.default_rng(0)
    truth = rng.random((20, 20))
    predicted = truth.copy()
    predicted[:, 12:] += rng.standard_normal((20, 8))
    everywhere = np.ones((20, 20), dtype=bool)
    left = np.zeros((20, 20), dtype=bool)
    left[:, :8] = True
    assert masked_ssim(truth, predicted, everywhere, scored=left) == pytest.approx(1)
    assert masked_ssim(truth, predicted, everywhere) < 0.9
    assert np.isnan(masked_ssim(truth, predicted, left, scored=~left))
