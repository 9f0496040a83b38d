"""S2S-ST: spots as pixels of a grid, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError
from stzoo.core.io.read import read
from stzoo.plugins.s2s_st.lattice import Lattice, find_stride_and_phase


def section(row=None, col=None, um=None, pitch=None) -> Section:
    n = len(um) if um is not None else len(row)
    obs = pd.DataFrame(index=[f"spot{i}" for i in range(n)])
    if row is not None:
        obs["array_row"], obs["array_col"] = row, col
    adata = AnnData(np.ones((n, 2), dtype=np.float32), obs=obs)
    if um is not None:
        adata.obsm["spatial_um"] = np.asarray(um, dtype=float)
    return Section(adata, "drawn", pitch_um=pitch)


def some(n, keep=0.8, seed=0):
    return np.random.default_rng(seed).random(n) < keep


def assert_round_trip(lattice: Lattice) -> None:
    n = len(lattice.row)
    values = np.random.default_rng(1).standard_normal((n, 3)).astype(np.float32)
    grid = lattice.to_grid(values)
    assert grid.shape == (3, *lattice.shape)
    assert grid.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(grid[0]), ~lattice.occupied)
    np.testing.assert_array_equal(lattice.from_grid(grid), values)
    assert lattice.occupied.sum() == n
    assert lattice.row.min() == lattice.col.min() == 0


def test_a_square_lattice_with_gaps_comes_back_to_the_bit():
    row, col = (axis.ravel()[some(120)] for axis in np.mgrid[5:15, 3:15])
    lattice = Lattice.of(section(row, col))
    assert lattice.kind == "square"
    assert lattice.shape == (10, 12)
    assert_round_trip(lattice)


@pytest.mark.parametrize("parity", [0, 1])
def test_a_hexagonal_array_becomes_a_full_rectangle(parity):
    row, col = (axis.ravel() for axis in np.mgrid[:78, :128])
    there = (row + col) % 2 == parity
    lattice = Lattice.of(section(row[there], col[there]))
    assert lattice.kind == "hexagonal"
    assert lattice.shape == (78, 64)
    assert lattice.occupied.all()
    assert_round_trip(lattice)
    few = there & some(len(row), 0.5)
    assert_round_trip(Lattice.of(section(row[few], col[few])))


def test_every_second_row_and_column_of_a_square_lattice_is_not_hexagonal():
    row, col = (2 * axis.ravel() for axis in np.mgrid[:6, :5])
    assert Lattice.of(section(row, col)).kind == "square"


def test_positions_of_a_drifting_lattice_are_ranked():
    row, col = (axis.ravel()[some(30 * 40)] for axis in np.mgrid[:30, :40])
    shift = np.random.default_rng(0).uniform(-8, 8, (2, len(row)))
    um = np.stack([col * 103.0 + shift[0], row * 103.0 + shift[1]], axis=1)
    for pitch in (100.0, None):
        lattice = Lattice.of(section(um=um, pitch=pitch))
        np.testing.assert_array_equal(lattice.row, row)
        np.testing.assert_array_equal(lattice.col, col)


@pytest.mark.parametrize("pitch", [None, 10.0])
def test_cells_are_no_lattice(pitch):
    cells = np.random.default_rng(0).uniform(0, 1000, (400, 2))
    with pytest.raises(DataError, match="--bin-um"):
        Lattice.of(section(um=cells, pitch=pitch))


def test_lines_between_lines_are_no_lattice():
    um = np.stack([np.array([0.0, 100, 200, 350, 450]), np.zeros(5)], axis=1)
    with pytest.raises(DataError, match="whole multiples"):
        Lattice.of(section(um=um, pitch=100.0))


def test_two_spots_in_one_place_are_named():
    with pytest.raises(DataError, match="'spot1' and 'spot3'"):
        Lattice.of(section([0, 0, 1, 0], [0, 1, 0, 1]))


def test_array_coordinates_that_are_no_integers_are_refused():
    with pytest.raises(DataError, match="whole numbers"):
        Lattice.of(section([0, 1.5], [0, 1]))


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_stride_and_phase_of_a_sub_lattice_with_gaps(stride):
    occupied = some(24 * 23, 0.9).reshape(24, 23)
    for a in range(stride):
        for b in range(stride):
            measured = np.zeros_like(occupied)
            measured[a::stride, b::stride] = occupied[a::stride, b::stride]
            assert find_stride_and_phase(occupied, measured) == (stride, (a, b))
            measured[np.nonzero(measured)[0][0], np.nonzero(measured)[1][0]] = False
            assert find_stride_and_phase(occupied, measured) is None


def test_other_masks_have_no_stride():
    occupied = np.ones((12, 12), dtype=bool)
    assert find_stride_and_phase(occupied, occupied) is None
    assert find_stride_and_phase(occupied, np.zeros_like(occupied)) is None
    assert find_stride_and_phase(occupied, some(144, 0.25).reshape(12, 12)) is None
    rows = np.zeros_like(occupied)
    rows[::2] = True
    assert find_stride_and_phase(occupied, rows) is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("dlpfc::151673", "hexagonal"),
        ("her2st::C5", "square"),
        ("xenium_mouse_brain::lattice_50um", "square"),
        ("dbit_embryo::FFPE-2", "square"),
    ],
)
def test_real_arrays_come_back_to_the_bit(shared_data, path, kind):
    found = read(f"{shared_data}/{path}")
    lattice = Lattice.of(found)
    assert lattice.kind == kind
    assert_round_trip(lattice)
    if "array_row" in found.adata.obs and "lattice" in path:  # positions say the same as the array
        del found.adata.obs["array_row"]
        np.testing.assert_array_equal(Lattice.of(found).occupied, lattice.occupied)
