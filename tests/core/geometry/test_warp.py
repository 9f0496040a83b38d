"""Images and polygons move as their points do, whatever bends them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from stzoo.core.errors import DataError
from stzoo.core.geometry.displacement import Displacement
from stzoo.core.geometry.transform import Transform
from stzoo.core.geometry.warp import warp_image


def _blobs(height: int, width: int) -> np.ndarray:
    return np.clip(gaussian_filter(np.random.default_rng(1).normal(size=(height, width)), 6) * 1500 + 128, 0, 255)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [0, 37, 90, 200])
def test_an_image_moves_as_its_points_do(angle: float, flip: bool) -> None:
    """A bright dot at a place is found, after the image moved, where apply takes that place."""
    shape, mpp, out_mpp = (150, 180), 4.0, 5.0
    bend = Displacement(np.random.default_rng(2).normal(0, 6, (6, 6, 2)), (0, 0), 200)
    transform = Transform.rigid(angle, (200, 150), flip=flip, centre=(360, 300)).then(Transform(np.eye(2, 3), bend))
    for row, column in ((60, 70), (75, 100), (90, 60)):
        image = np.zeros(shape, dtype=np.float32)
        image[row - 3 : row + 4, column - 3 : column + 4] = 1
        moved = transform.apply_image(image, mpp=mpp, out_mpp=out_mpp, shape=(260, 260))
        y, x = np.mgrid[:260, :260]
        found = np.array([(x * moved).sum(), (y * moved).sum()]) / moved.sum() * out_mpp + out_mpp / 2
        expected = transform.apply([[(column + 0.5) * mpp, (row + 0.5) * mpp]])[0]
        assert np.abs(found - expected).max() < 1.0  # a quarter of a pixel


def test_identity_leaves_images_alone_whatever_their_kind() -> None:
    image = _blobs(40, 50)
    colour = np.stack([image] * 3, axis=-1).astype(np.uint8)
    for pixels in (image, image.astype(np.float32), colour, colour[..., 0], image > 128, (image * 200).astype("u2")):
        moved = Transform.identity().apply_image(pixels, mpp=0.5, shape=(40, 50))
        assert moved.dtype == pixels.dtype
        assert np.allclose(moved.astype(float), pixels.astype(float), atol=1e-3)


def test_there_and_back_keeps_an_image_and_outside_is_filled() -> None:
    image = np.stack([_blobs(120, 120)] * 3, axis=-1).astype(np.uint8)
    transform = Transform.rigid(30, centre=(120, 120))
    moved = transform.apply_image(image, mpp=2.0, shape=(120, 120))
    back = transform.inverse().apply_image(moved, mpp=2.0, shape=(120, 120))
    inner = slice(35, 85)
    assert np.abs(back[inner, inner].astype(int) - image[inner, inner]).mean() < 1.5
    assert (moved[0, 0] == 255).all()
    assert not transform.apply_image(image[..., 0] >= 0, mpp=2.0, shape=(120, 120))[0, 0]


def test_a_coarser_result_is_area_averaged() -> None:
    checks = (np.indices((80, 80)).sum(0) % 2 * 200).astype(np.uint8)
    coarse = Transform.identity().apply_image(checks, mpp=1.0, out_mpp=4.0, shape=(20, 20))
    assert np.array_equal(coarse, np.full((20, 20), 100))


def test_bands_do_not_show() -> None:
    """A large result is made band by band; its left columns, a result small enough for one band, are the same."""
    image, inverse, asked = _blobs(80, 80), Transform.rigid(17, centre=(40, 40)).inverse(), []

    def back(places: np.ndarray) -> np.ndarray:
        asked.append(len(places))
        return inverse.apply(places)

    large = warp_image(image, back, mpp=1.0, out_mpp=0.06, shape=(1400, 1500))
    assert len(asked) > 1
    asked.clear()
    narrow = warp_image(image, back, mpp=1.0, out_mpp=0.06, shape=(1400, 300))
    assert len(asked) == 1
    assert np.array_equal(large[:, :300], narrow)


SQUARE = np.array([[0.0, 0], [100, 0], [100, 100], [0, 100]])


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@given(st.floats(0, 360), st.booleans(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_polygons_keep_area_and_direction(angle: float, flip: bool, closed: bool) -> None:
    ring = np.vstack([SQUARE, SQUARE[:1]]) if closed else SQUARE
    transform = Transform.rigid(angle, (5, 6), flip=flip)
    (moved,) = transform.apply_polygons([ring])
    assert area(moved) == pytest.approx(area(ring))  # positive before, positive after, mirrored or not
    assert len(moved) == len(ring)
    assert not closed or np.array_equal(moved[0], moved[-1])
    (back,) = transform.inverse().apply_polygons([moved])
    assert np.abs(back - ring).max() < 1e-9


def test_bent_edges_get_vertices_and_stay_on_the_curve() -> None:
    grid = np.zeros((21, 21, 2))
    grid[..., 1] = 40 * np.sin(np.arange(21) / 20 * 2 * np.pi)  # edges along x become a wave of 40 µm
    transform = Transform.rigid(20, (50, 0)).then(Transform(np.eye(2, 3), Displacement(grid, (0, 0), 50)))
    ring = SQUARE * 8 + [80, 60]
    (moved,) = transform.apply_polygons([ring])
    assert len(moved) > 40
    along = np.linspace(0, 1, 2001)[:, None]
    truth = np.concatenate(
        [transform.apply(a + along * (b - a)) for a, b in zip(ring, np.roll(ring, -1, 0), strict=False)]
    )
    start, end = moved, np.roll(moved, -1, axis=0)
    step = end - start
    length = np.maximum((step**2).sum(axis=1), 1e-12)
    at = np.clip(((truth[:, None] - start) * step).sum(axis=2) / length, 0, 1)
    off = np.linalg.norm(truth[:, None] - start - at[..., None] * step, axis=2).min(axis=1)
    assert off.max() < 1.5
    assert area(moved) == pytest.approx(area(truth), rel=1e-3)
    assert math.isinf(Transform.identity().finest_um)


def test_bad_polygons_are_named() -> None:
    for ring in (SQUARE[:2], np.full((4, 2), np.nan), np.zeros((4, 3))):
        with pytest.raises(DataError, match="polygon 1 has shape"):
            Transform.identity().apply_polygons([SQUARE, ring])
