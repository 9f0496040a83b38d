"""Matches: what they carry, how they compose, and that they travel with the transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import DataError
from stzoo.core.geometry.displacement import Displacement
from stzoo.core.geometry.matches import Matches
from stzoo.core.geometry.transform import Transform


def plan(rows: int, columns: int, seed: int) -> Matches:
    """Draw a sparse plan that lays no more upon a spot than it weighs."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((rows, columns)) * (rng.random((rows, columns)) < 0.5)
    drawn[0, 0] = 1.0
    drawn /= np.maximum(drawn.sum(axis=1, keepdims=True), 1e-12) * rows
    drawn /= np.maximum(1, drawn.sum(axis=0) * columns)
    return Matches(csr_array(drawn))


def turn(angle: float, matches: Matches | None = None) -> Transform:
    return Transform(Transform.rigid(angle, (10, -20)).matrix, matches=matches)


def dense(matches: Matches | None) -> np.ndarray:
    assert matches is not None
    return np.asarray(matches.plan.todense())


seeds = st.integers(0, 10_000)
sizes = st.tuples(*[st.integers(1, 7)] * 4)


@given(sizes, seeds)
@settings(max_examples=50, deadline=None)
def test_composition_is_associative_and_turns_around(n: tuple[int, ...], seed: int) -> None:
    a, b, c = (turn(30 * i, plan(n[i], n[i + 1], seed + i)) for i in range(3))
    left, right = a.then(b).then(c), a.then(b.then(c))
    assert np.allclose(dense(left.matches), dense(right.matches), atol=1e-12)
    assert np.allclose(dense(a.then(b).inverse().matches), dense(b.inverse().then(a.inverse()).matches), atol=1e-12)
    assert left.matches is not None
    assert a.matches is not None
    assert left.matches.share <= a.matches.share + 1e-12
    assert np.array_equal(dense(a.inverse().inverse().matches), dense(a.matches))


def test_a_one_to_one_plan_changes_nothing() -> None:
    one = Matches(csr_array(np.eye(6) / 6))
    other = plan(6, 4, 1)
    assert one.share == pytest.approx(1)
    assert np.allclose(dense(one.then(other)), dense(other))
    assert np.allclose(dense(other.transpose().then(one)), dense(other.transpose()))


def test_mass_never_grows_where_a_plan_lays_everything_on_one_spot() -> None:
    heap = Matches(csr_array(np.array([[0.5, 0], [0.5, 0]])))
    spread = Matches(csr_array(np.array([[0.5, 0.5], [0, 0]])))
    assert heap.then(spread).share == pytest.approx(1)
    assert heap.then(Matches(csr_array(np.array([[0.0, 0], [0.25, 0.25]])))).share == 0


def test_transfer_is_the_weighted_mean_of_what_is_known() -> None:
    matches = Matches(csr_array(np.array([[0.2, 0.1, 0], [0, 0, 0], [0, 0.1, 0.1]])))
    carried = matches.transfer([[3.0, 1], [0, np.nan], [4, 5]])
    assert np.allclose(carried, [[2, 1], [np.nan, np.nan], [2, 5]], equal_nan=True)
    assert matches.share == pytest.approx(0.5)
    with pytest.raises(DataError, match="3 fixed spots"):
        matches.transfer(np.zeros((2, 2)))


@given(seeds, st.booleans())
@settings(max_examples=10, deadline=None)
def test_saved_with_the_transform_bit_for_bit(seed: int, bent: bool) -> None:
    import tempfile

    field = Displacement(np.random.default_rng(seed).normal(0, 5, (3, 4, 2)), (0, 0), 500) if bent else None
    transform = Transform(Transform.rigid(seed).matrix, field, matches=plan(5, 8, seed))
    with tempfile.TemporaryDirectory() as folder:
        again = Transform.load(transform.save(Path(folder) / "t.zarr"))
    assert again.matches is not None
    assert transform.matches is not None
    assert again.matches.shape == (5, 8)
    for part in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(again.matches.plan, part), getattr(transform.matches.plan, part))
    assert np.array_equal(again.apply([[1, 2]]), transform.apply([[1, 2]]))


def test_an_empty_plan_is_saved_too_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = turn(5, Matches(csr_array((3, 4)))).save(tmp_path / "t.zarr")
    loaded = Transform.load(path).matches
    assert loaded is not None
    assert (loaded.shape, loaded.share) == ((3, 4), 0)
    (path / "matches" / "columns" / "zarr.json").unlink()
    with pytest.raises(DataError, match="damaged"):
        Transform.load(path)


def test_matches_are_dropped_where_only_one_side_has_them_and_kept_through_bends() -> None:
    bend = Transform(np.eye(2, 3), Displacement(np.full((2, 2, 2), 3.0), (0, 0), 10), matches=plan(4, 4, 1))
    with_matches, without = turn(10, plan(3, 4, 0)), turn(20)
    assert with_matches.then(without).matches is None
    assert without.then(with_matches).matches is None
    both = bend.then(turn(20, plan(4, 2, 2)))
    assert both.rest is not None
    assert both.rest.matches is None
    assert both.matches is not None
    assert both.matches.shape == (4, 2)
    inverse = both.inverse()
    assert inverse.matches is not None
    assert inverse.matches.shape == (2, 4)
    assert np.allclose(inverse.apply(both.apply([[7, 8]])), [[7, 8]])


def test_a_stack_goes_between_any_two_sections() -> None:
    sections = tuple(
        Section(AnnData(np.ones((n, 1), np.float32), obsm={"spatial_um": np.zeros((n, 2))}), f"s{n}") for n in (3, 4, 5)
    )
    stack = Stack(sections, transforms=(turn(40, plan(3, 4, 0)), None, turn(-80, plan(5, 4, 1))))
    point = np.array([[100.0, 30]])
    for i in range(3):
        assert np.allclose(stack.between(i, i).apply(point), point)
        for j in range(3):
            there = stack.between(i, j)
            assert np.allclose(stack.between(j, i).apply(there.apply(point)), point)
            if i != j:
                assert there.matches is not None
                assert there.matches.shape == (len(sections[i]), len(sections[j]))
    assert np.allclose(stack.between(0, 1).apply(point), stack.transforms[0].apply(point))  # type: ignore[union-attr]


def test_what_is_refused() -> None:
    for wrong, message in ((-0.1, "negative"), (np.nan, "not finite"), (1.5, "weigh 1.5"), (np.inf, "not finite")):
        with pytest.raises(DataError, match=message):
            Matches(csr_array(np.array([[wrong, 0.0]])))
    with pytest.raises(DataError, match="of shape"):
        Matches(csr_array((0, 3)))
    with pytest.raises(DataError, match="onto 4 spots can not go on from 3"):
        plan(2, 4, 0).then(plan(3, 4, 0))


def test_a_plan_does_not_change_under_its_user() -> None:
    given_plan = csr_array(np.eye(2) / 2)
    matches = Matches(given_plan)
    given_plan.data[:] = 7
    assert matches.share == 1
    with pytest.raises(ValueError, match="read-only"):
        matches.plan.data[0] = 3
