"""Transform: compose, invert, apply to points and images, save and load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from stzoo.core.errors import DataError, OutputError, UnitsError
from stzoo.core.geometry.displacement import Displacement
from stzoo.core.geometry.transform import Transform

POINTS = np.random.default_rng(0).uniform(-3000, 9000, (200, 2))
shifts = st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000))


@st.composite
def affine(draw: st.DrawFn) -> Transform:
    """A turn, a mirror, unequal scales and a shear: everything but a flattened plane."""
    first = Transform.rigid(draw(st.floats(-720, 720)), draw(shifts), flip=draw(st.booleans()), centre=draw(shifts))
    shear = np.array([[draw(st.floats(0.5, 2)), draw(st.floats(-0.5, 0.5)), 0], [0, draw(st.floats(0.5, 2)), 0]])
    return first.then(Transform(shear))


@st.composite
def fields(draw: st.DrawFn) -> Displacement:
    """A field that bends by up to 60 % and does not fold."""
    rows, columns = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    offsets = draw(arrays(np.float64, (rows, columns, 2), elements=st.floats(-100, 100)))
    spacing = draw(st.floats(100, 800))
    field = Displacement(offsets, draw(shifts), spacing)
    slope = field._slope()
    return field if slope < 0.6 else Displacement(offsets * (0.6 / slope), field.origin, spacing)


@st.composite
def bent(draw: st.DrawFn) -> Transform:
    made = Transform(draw(affine()).matrix, draw(fields()))
    return made.then(Transform(draw(affine()).matrix, draw(fields()))) if draw(st.booleans()) else made


@given(affine())
def test_affine_with_its_inverse_is_the_identity(transform: Transform) -> None:
    for both in (transform.then(transform.inverse()), transform.inverse().then(transform)):
        assert both.displacement is None
        assert both.rest is None
        assert np.abs(both.apply(POINTS) - POINTS).max() < 1e-6
        assert np.abs(both.matrix[:, :2] - np.eye(2)).max() < 1e-12


@given(bent())
@settings(max_examples=60, deadline=None)
def test_a_displacement_with_its_inverse_is_the_identity_to_a_millionth_of_a_micrometre(transform: Transform) -> None:
    stretch = np.prod([1 + abs(np.linalg.inv(part.matrix[:, :2])).max() for part in transform.parts()])
    tolerance = 1e-6 * max(1.0, stretch)
    assert np.abs(transform.then(transform.inverse()).apply(POINTS) - POINTS).max() < tolerance
    there = transform.inverse().apply(POINTS)
    assert np.abs(transform.apply(there) - POINTS).max() < 1e-5
    again = transform.inverse().inverse()
    assert np.abs(again.apply(POINTS) - transform.apply(POINTS)).max() < 1e-6


@given(bent(), bent(), affine())
@settings(max_examples=40, deadline=None)
def test_composition_is_one_after_the_other_and_associative(a: Transform, b: Transform, c: Transform) -> None:
    expected = c.apply(b.apply(a.apply(POINTS)))
    for both in (a.then(b).then(c), a.then(b.then(c))):
        assert np.abs(both.apply(POINTS) - expected).max() < 1e-6
    assert np.abs(Transform.identity().then(a).apply(POINTS) - a.apply(POINTS)).max() < 1e-9
    assert np.abs(a.then(Transform.identity()).apply(POINTS) - a.apply(POINTS)).max() < 1e-9


def test_rigid_says_what_it_does() -> None:
    quarter = Transform.rigid(90, (5, 0))
    assert np.allclose(quarter.apply([[1, 0], [0, 1]]), [[5, 1], [4, 0]])
    mirrored = Transform.rigid(0, flip=True, centre=(10, 0))
    assert np.allclose(mirrored.apply([[8, 3]]), [[12, 3]])
    about = Transform.rigid(123, centre=(7, -2))
    assert np.allclose(about.apply([[7, -2]]), [[7, -2]])


def test_displacement_is_bilinear_inside_and_constant_outside() -> None:
    offsets = np.zeros((2, 2, 2))
    offsets[:, 1, 0] = 10  # 10 µm to the right at the right edge
    moved = Transform(np.eye(2, 3), Displacement(offsets, (100, 100), 50)).apply([[100, 120], [125, 120], [900, 0]])
    assert np.allclose(moved, [[100, 120], [130, 120], [910, 0]])


@given(bent())
@settings(max_examples=10, deadline=None)
def test_saved_and_loaded_is_bit_equal(transform: Transform) -> None:
    import tempfile

    for one in (transform, transform.inverse()):
        with tempfile.TemporaryDirectory() as folder:
            again = Transform.load(one.save(Path(folder) / "t.zarr"))
        assert len(again.parts()) == len(one.parts())
        for a, b in zip(one.parts(), again.parts(), strict=True):
            assert a.matrix.tobytes() == b.matrix.tobytes()
            assert (a.displacement is None) == (b.displacement is None)
            if a.displacement is not None and b.displacement is not None:
                assert a.displacement.offsets.tobytes() == b.displacement.offsets.tobytes()
                assert (a.displacement.origin, a.displacement.spacing, a.displacement.inverted) == (
                    b.displacement.origin, b.displacement.spacing, b.displacement.inverted,
                )  # fmt: skip
        assert np.array_equal(one.apply(POINTS), again.apply(POINTS))


def test_saving_refuses_to_replace_and_loading_refuses_what_is_not_a_transform(tmp_path: Path) -> None:
    import zarr

    path = Transform.rigid(10).save(tmp_path / "t.zarr")
    with pytest.raises(OutputError, match="exists already"):
        Transform.identity().save(path)
    Transform.identity().save(path, overwrite=True)
    assert np.array_equal(Transform.load(path).matrix, np.eye(2, 3))
    with pytest.raises(DataError, match="no transform at"):
        Transform.load(tmp_path / "absent.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="not a zarr group"):
        Transform.load(tmp_path / "folder")
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(DataError, match="not a transform"):
        Transform.load(tmp_path / "other.zarr")
    (path / "0" / "matrix" / "zarr.json").unlink()
    with pytest.raises(DataError, match="damaged"):
        Transform.load(path)


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


def test_a_coarser_result_is_area_averaged_and_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = (np.indices((80, 80)).sum(0) % 2 * 200).astype(np.uint8)
    coarse = Transform.identity().apply_image(checks, mpp=1.0, out_mpp=4.0, shape=(20, 20))
    assert np.array_equal(coarse, np.full((20, 20), 100))
    image, transform = _blobs(80, 80), Transform.rigid(17, centre=(40, 40))
    once = transform.apply_image(image, mpp=1.0, shape=(80, 80))
    monkeypatch.setattr("stzoo.core.geometry.warp._BAND_PIXELS", 500)
    assert np.array_equal(once, transform.apply_image(image, mpp=1.0, shape=(80, 80)))


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        Transform(np.full((2, 3), np.nan))
    with pytest.raises(DataError, match=r"\(2, 3\)"):
        Transform(np.eye(3))
    with pytest.raises(DataError, match="flattens"):
        Transform(np.array([[1.0, 2, 0], [2, 4, 0]]))
    with pytest.raises(DataError, match=r"expected \(n, 2\)"):
        Transform.identity().apply([1, 2])
    for offsets, spacing in ((np.zeros((1, 3, 2)), 1), (np.zeros((3, 3)), 1), (np.zeros((3, 3, 2)), 0)):
        with pytest.raises(DataError, match="displacement of shape"):
            Displacement(offsets, (0, 0), spacing)
    with pytest.raises(DataError, match="not finite"):
        Displacement(np.full((2, 2, 2), np.inf), (0, 0), 1)
    folding = np.zeros((3, 3, 2))
    folding[:, 1, 0] = 300
    with pytest.raises(DataError, match="folds"):
        Transform(np.eye(2, 3), Displacement(folding, (0, 0), 100)).inverse()
    for mpp in (0, -1, float("nan")):
        with pytest.raises(UnitsError, match="expected a positive number"):
            Transform.identity().apply_image(np.zeros((4, 4)), mpp=mpp, shape=(4, 4))
    with pytest.raises(DataError, match="expected"):
        Transform.identity().apply_image(np.zeros(4), mpp=1, shape=(4, 4))


def test_a_transform_does_not_change_under_its_user() -> None:
    matrix, offsets = np.eye(2, 3), np.zeros((2, 2, 2))
    transform = Transform(matrix, Displacement(offsets, (0, 0), 1))
    matrix[:], offsets[:] = 7, 7
    assert np.array_equal(transform.apply([[1, 2]]), [[1, 2]])
    with pytest.raises(ValueError, match="read-only"):
        transform.matrix[0, 0] = 2
