"""Splits that do not flatter."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.data.section import Section
from stzoo.core.data.splits import By, Split, SplitOptions, distance_to, patient_of, read_by, split
from stzoo.core.data.subsets import SpotSubset
from stzoo.core.errors import DataError, UsageError


def made(name: str, patient: str = "") -> Section:
    """A lattice of 200 µm: splits look at positions and counts only."""
    r, c = (axis.ravel() for axis in np.mgrid[:11, :10])
    adata = AnnData(np.random.default_rng(0).poisson(5.0, (110, 5)).astype(np.float32))
    adata.obsm["spatial_um"] = np.column_stack([c, r]) * 200.0
    section = Section(adata, name, source=name)
    if patient:
        section.adata.uns["patient"] = patient
    return section


A, B, C, D = (made(name) for name in "abcd")


def spots(pieces: tuple[SpotSubset, ...]) -> set[tuple[str, int]]:
    return {(piece.section.name, int(i)) for piece in pieces for i in np.flatnonzero(piece.spots)}


def disjoint(found: Split) -> bool:
    sides = [spots(found.train), spots(found.validation), spots(found.test)]
    return sum(map(len, sides)) == len(set().union(*sides))


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 4), given_test=st.booleans(), buffer=st.sampled_from([0.0, 250.0]))
def test_sides_never_share_a_spot_and_keep_their_distance(count: int, given_test: bool, buffer: float) -> None:
    sections = [A, B, C, D][:count]
    test = [made("other")] if given_test else []
    found = split(sections, test, SplitOptions(buffer_um=buffer))
    assert disjoint(found)
    assert all((found.train, found.test))
    for piece in found.train:
        for other in (*found.validation, *found.test):
            if other.section is piece.section:
                near = distance_to(piece.section.um[piece.spots], piece.section.um[other.spots])
                assert near.min() >= buffer
    assert spots(found.train) | spots(found.validation) <= spots(found.development)
    assert not spots(found.development) & spots(found.test)


def test_patients_are_held_out_whole() -> None:
    sections = [made("a1", "A"), made("a2", "A"), made("b1", "B"), made("c1", "C"), made("c2", "C")]
    found = split(sections)
    sides = [{piece.patient for piece in side} for side in (found.train, found.validation, found.test)]
    assert all(sides)
    assert sum(map(len, sides)) == 3
    assert found.by == {"test": "patient", "validation": "patient"}
    assert not found.notes


def test_one_patient_on_both_sides_is_refused() -> None:
    with pytest.raises(UsageError, match="patient 'A' is in training and in test"):
        split([made("a1", "A"), made("b1", "B")], [made("a2", "A")])
    with pytest.raises(UsageError, match="--same-patient"):
        split([made("a1", "A")], [made("a2", "A")])
    with pytest.raises(UsageError, match="patient 'A'"):  # the flag is for data of one patient only
        split([made("a1", "A"), made("b1", "B")], [made("a2", "A")], SplitOptions(same_patient=True))
    accepted = split([made("a1", "A")], [made("a2", "A")], SplitOptions(same_patient=True))
    assert any("one patient" in note for note in accepted.notes)


def test_patients_given_by_hand_count_as_known() -> None:
    with pytest.raises(UsageError, match="'p'"):
        split([A, B], [C], SplitOptions(patients=["p", "q", "p"]))
    with pytest.raises(UsageError, match="2 patients for 3 sections"):
        split([A, B], [C], SplitOptions(patients=["p", "q"]))


def test_unknown_patients_are_said() -> None:
    assert any("patients are not known" in note for note in split([A, B, C]).notes)


def test_sections_are_held_out_where_there_are_three() -> None:
    found = split([A, B, C, D])
    assert found.by == {"test": "section", "validation": "section"}
    assert len({p.section.name for side in (found.train, found.validation, found.test) for p in side}) == 4


def test_ways_that_can_not_be() -> None:
    with pytest.raises(UsageError, match="by section"):
        split([A], options=SplitOptions(by=By.section))
    with pytest.raises(UsageError, match="names no patient"):
        split([A, B], options=SplitOptions(by=By.patient))
    with pytest.raises(UsageError, match="twice"):
        split([A, A])
    with pytest.raises(DataError, match="--buffer-um"):
        split([A], options=SplitOptions(buffer_um=5000))
    with pytest.raises(UsageError, match="block"):
        read_by("blok")


def test_few_spots_are_not_spent_on_validation() -> None:
    few = A.hide(np.arange(len(A)) < 20)
    found = split([few], [B])
    assert found.validation == ()
    assert spots(found.train) == {("a", i) for i in range(20)}


def test_patients_are_read_from_the_section() -> None:
    section = made("s")
    section.adata.obs["donor"] = "D7"
    assert patient_of(section) == "D7"
    section.adata.obs["donor"] = ["D7"] * (len(section) - 1) + ["D8"]
    with pytest.raises(DataError, match="2 patients"):
        patient_of(section)


def test_a_piece_shows_its_own_spots_only() -> None:
    piece = split([A], [B]).train[0]
    shown = piece.visible(A.genes[:3])
    assert np.isnan(shown.counts()[~piece.spots]).all()
    assert np.isfinite(shown.counts()[piece.spots]).all()
    assert np.allclose(shown.depth[piece.spots], A.depth[piece.spots])  # of all genes
