"""Resampling keeps what is constant, adds up over parts, and goes on with the border beyond the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.slides.resampling import margin, resample

DTYPES = [np.uint8, np.uint16, np.float32, np.float64]
places = st.floats(-15, 15)
sides = st.floats(0.3, 40)


@given(places, places, sides, sides, st.integers(1, 15), st.integers(1, 15), st.sampled_from(DTYPES))
@settings(max_examples=60, deadline=None)
def test_one_colour_stays_one_colour(left, top, width, height, rows, columns, dtype):
    colour = np.array([7, 100, 201], dtype=dtype)
    image = np.broadcast_to(colour, (12, 17, 3)).copy()
    found = resample(image, (left, top, left + width, top + height), (rows, columns))
    assert found.dtype == dtype
    assert found.shape == (rows, columns, 3)
    np.testing.assert_allclose(found, np.broadcast_to(colour, found.shape), rtol=1e-5)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_whole_factors_are_means_of_blocks(down, across, seed):
    image = np.random.default_rng(seed).normal(size=(5 * down, 4 * across, 2))
    found = resample(image, (0, 0, 4 * across, 5 * down), (5, 4))
    np.testing.assert_allclose(found, image.reshape(5, down, 4, across, 2).mean((1, 3)), atol=1e-12)


@given(st.floats(0.2, 5), st.floats(-3, 3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_parts_beside_each_other_are_the_whole(step, left, seed):
    image = np.random.default_rng(seed).normal(size=(20, 30, 1))
    whole = resample(image, (left, 0, left + 8 * step, 20), (20, 8))
    parts = [resample(image, (left + i * step, 0, left + (i + 4) * step, 20), (20, 4)) for i in (0, 4)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-9)


def test_beyond_the_image_its_border_goes_on():
    image = np.arange(6, dtype=np.float64).reshape(2, 3, 1)
    found = resample(image, (-2, -1, 5, 3), (4, 7))[..., 0]
    np.testing.assert_array_equal(found[1:3], [[0, 0, 0, 1, 2, 2, 2], [3, 3, 3, 4, 5, 5, 5]])
    np.testing.assert_array_equal(found[[0, 3]], found[[1, 2]])


def test_all_of_an_image_is_a_copy():
    image = np.zeros((3, 4, 3), dtype=np.uint8)
    found = resample(image, (0, 0, 4, 3), (3, 4))
    found[:] = 9
    assert (image == 0).all()


@pytest.mark.parametrize(("factor", "reach"), [(4.0, 0.0), (1.0, 0.0), (0.5, 0.25), (0.0, 0.5)])
def test_only_what_is_enlarged_reaches_beyond_its_box(factor, reach):
    assert margin(factor) == reach
