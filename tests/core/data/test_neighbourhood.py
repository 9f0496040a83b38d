"""Gaussian means over neighbours against dense algebra, block by block."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from stzoo.core.data.neighbourhood import Neighbourhood

RNG = np.random.default_rng(0)
UM = RNG.uniform(0, 2000, (150, 2))


def dense(table: np.ndarray, width: float) -> np.ndarray:
    distance = cdist(UM, UM)
    weights = np.where(distance <= 3 * width, np.exp(-0.5 * (distance / width) ** 2), 0)
    return weights / weights.sum(axis=1, keepdims=True) @ table


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_are_those_of_dense_weights(dtype):
    table = RNG.normal(size=(150, 4)).astype(dtype)
    for width, found in zip((120.0, 500.0), Neighbourhood(UM).means(table, slice(0, 150), (120.0, 500.0)), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, dense(table, width), rtol=1e-4, atol=1e-5)


def test_blocks_are_the_whole_bit_for_bit():
    table, places = RNG.normal(size=(150, 3)).astype(np.float32), Neighbourhood(UM)
    (whole,) = places.means(table, slice(0, 150), [300.0])
    parts = [places.means(table, slice(start, min(start + 40, 150)), [300.0])[0] for start in range(0, 150, 40)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_spot_alone_is_its_own_mean_and_no_width_is_no_mean():
    table = np.array([[1.0], [2.0]])
    places = Neighbourhood(np.array([[0.0, 0.0], [5000.0, 0.0]]))
    np.testing.assert_array_equal(places.means(table, slice(0, 2), [100.0])[0], table)
    assert places.means(table, slice(0, 2), []) == []
