"""Transform: compose, invert, apply to points and images, save and load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
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


def steepest(field: Displacement) -> float:
    """How far, at most, two near points move apart for each micrometre between them, over the corners of all cells."""
    along = np.diff(field.offsets, axis=1)[..., None] / field.spacing  # by x: (rows, columns - 1, 2, 1)
    across = np.diff(field.offsets, axis=0)[..., None] / field.spacing
    pairs = [(x, y) for x in (along[:-1], along[1:]) for y in (across[:, :-1], across[:, 1:])]
    return float(max(np.linalg.svd(np.concatenate(pair, axis=-1), compute_uv=False).max() for pair in pairs))


@st.composite
def fields(draw: st.DrawFn) -> Displacement:
    """A field that bends by up to 60 % and does not fold."""
    rows, columns = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    offsets = draw(arrays(np.float64, (rows, columns, 2), elements=st.floats(-100, 100)))
    spacing = draw(st.floats(100, 800))
    field = Displacement(offsets, draw(shifts), spacing)
    slope = steepest(field)
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
