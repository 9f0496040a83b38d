"""Similarity of maps against scikit-image, within the tissue alone."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from stzoo.core.errors import UsageError
from stzoo.core.metrics.maps import masked_ssim, to_grid

RNG = np.random.default_rng(0)


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
