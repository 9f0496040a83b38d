"""The quality report: known overlaps, folds, distances; and the floors of the lattices."""

from __future__ import annotations

import json

import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial import cKDTree
from stzoo.core.data.lattice import HEXAGONAL, SQUARE, lattice_floor
from stzoo.core.data.section import Section
from stzoo.core.data.tissue import overview, slide_tissue, spot_tissue
from stzoo.core.geometry.displacement import Displacement
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.workflows.alignment_quality import quality


def section(um: np.ndarray, pitch: float | None = None) -> Section:
    return Section(AnnData(np.ones((len(um), 1), np.float32), obsm={"spatial_um": um}), "s", pitch_um=pitch)


def lattice(kind: str, n: int = 24, pitch: float = 100.0) -> np.ndarray:
    row, column = (v.ravel().astype(float) for v in np.mgrid[:n, :n])
    if kind == "square":
        return np.column_stack([column, row]) * pitch
    return np.column_stack([column + row % 2 / 2, row * np.sqrt(3) / 2]) * pitch


@pytest.mark.parametrize(("kind", "floor"), [("square", SQUARE), ("hexagonal", HEXAGONAL)])
def test_the_floor_is_what_chance_leaves(kind: str, floor: float) -> None:
    um = lattice(kind)
    whole = [1000, 1000 if kind == "square" else 500 * np.sqrt(3)]  # whole periods of the lattice
    points = 500 + np.random.default_rng(0).random((200_000, 2)) * whole
    drawn = cKDTree(um).query(points)[0].mean() / 100
    assert drawn == pytest.approx(floor, abs=0.001)
    assert lattice_floor(um) == (kind, pytest.approx(100 * floor))
    assert lattice_floor(um, 110.0) == (kind, pytest.approx(110 * floor))


def test_cells_have_no_floor() -> None:
    assert lattice_floor(np.random.default_rng(0).uniform(0, 1000, (500, 2))) is None
    assert lattice_floor(np.zeros((9, 2))) is None
    assert lattice_floor(np.zeros((1, 2))) is None


@pytest.mark.parametrize("flip", [False, True])
def test_the_same_tissue_overlaps_wholly_and_half_of_it_by_half(flip: bool) -> None:
    um = lattice("square")
    truth = Transform.rigid(33, (400, 50), flip=flip)
    found = quality(section(um), section(truth.apply(um), 100.0), truth, back=truth.inverse())
    assert found.dice > 0.98
    assert found.folds == 0
    assert found.landed == 1
    assert found.nearest_um == pytest.approx(0, abs=1e-6)
    assert found.consistency_p95_um == pytest.approx(0, abs=1e-6)
    assert found.floor_um == pytest.approx(38.26, abs=0.01)
    assert found.passed
    side = truth.then(Transform(np.array([[1, 0, np.ptp(truth.apply(um)[:, 0]) / 2], [0, 1, 0]])))
    off = quality(section(um), section(truth.apply(um)), side)
    assert off.dice < 0.8
    assert not off.passed
    assert "overlap by" in off.warnings[0]


def test_overlap_counts_the_area_as_it_was_stretched() -> None:
    um = lattice("square")
    half = Transform(np.array([[0.5, 0, 575], [0, 1, 0]]))  # the middle half of the fixed tissue
    assert quality(section(um), section(um), half).dice == pytest.approx(2 / 3, abs=0.02)


def test_random_offsets_meet_the_floor() -> None:
    um = lattice("square", 40)
    found = quality(section(um), section(um), Transform.rigid(31, (3, 7), centre=(2000, 2000)))
    assert found.nearest_um is not None
    assert found.nearest_um == pytest.approx(found.floor_um, rel=0.03)


def test_there_and_back_is_measured_and_judged() -> None:
    um = lattice("square")
    a, b = section(um), section(um)
    near = quality(a, b, Transform.identity(), back=Transform.rigid(0, (30, 40)))
    assert near.consistency_mean_um == pytest.approx(50)
    assert near.consistency_p95_um == pytest.approx(50)
    assert near.passed
    far = quality(a, b, Transform.identity(), back=Transform.rigid(0, (300, 400)))
    assert "there and back misses by 500 µm" in far.warnings[0]
    assert quality(a, b, Transform.identity()).consistency_mean_um is None


@pytest.mark.parametrize("flip", [False, True])
def test_folds_are_counted_against_the_side_of_the_affine_part(flip: bool) -> None:
    um = lattice("square")
    offsets = np.zeros((24, 24, 2))
    offsets[:, 12, 0] = -250  # beyond the column before it: that strip runs backwards
    fixed = section(Transform.rigid(0, flip=flip, centre=(1150, 0)).apply(um))
    bend = Displacement(offsets, (0, 0), 100)
    found = quality(section(um), fixed, Transform(Transform.rigid(0, flip=flip, centre=(1150, 0)).matrix, bend))
    assert found.grid_um == 32
    assert found.folds / found.grid_points == pytest.approx(100 / 2500, rel=0.4)
    assert f"folds at {found.folds} points" in " ".join(found.warnings)
    assert quality(section(um), fixed, Transform.rigid(0, flip=flip, centre=(1150, 0))).folds == 0


def test_slides_are_used_where_both_have_one() -> None:
    tissue = synthetic_section(side_um=1500)
    found = quality(tissue, tissue, Transform.identity())
    assert found.tissue == "slides"
    assert found.stain_correlation == pytest.approx(1)
    assert found.dice > 0.95
    shifted = quality(tissue, tissue, Transform.rigid(0, (200, 0)))
    assert shifted.stain_correlation is not None
    assert shifted.stain_correlation < 0.7
    bare = Section(tissue.adata, "bare", mpp=1.0)
    assert quality(tissue, bare, Transform.identity()).tissue == "spots"


def test_it_prints_and_goes_to_json() -> None:
    um = lattice("hexagonal")
    found = quality(section(um), section(um), Transform.rigid(0, (1500, 0)), back=Transform.identity())
    text = "\n".join(found.lines())
    for word in ("Dice, by spots", "there and back", "folds: 0 of", "chance leaves 35 µm on a hexagonal", "warning:"):
        assert word in text
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["passed"] is False
    assert plain["warnings"] == list(found.warnings)


def test_tissue_knows_its_place() -> None:
    um = lattice("square") + np.array([500, 900])
    tissue = spot_tissue(section(um))
    assert tissue.contains(um).all()
    assert not tissue.contains(um + np.array([0, 5000])).any()
    place = np.array([[3.0, 4], [10, 2]])
    assert np.allclose(tissue.to_pixels(tissue.to_um(place)), place)
    drawn = synthetic_section(side_um=1500)
    small = overview(drawn)
    assert small.mpp == pytest.approx(16, rel=0.02)
    seen = slide_tissue(drawn, small)
    assert seen.points().min() > 0
    assert seen.points().max() < 1500
