"""Which spots to measure: from positions alone, evenly, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial import cKDTree
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UsageError
from stzoo.core.workflows.design import design, farthest_points, write_barcodes


def lattice(rows: int = 9, columns: int = 12, *, hexagonal: bool = False) -> Section:
    row, column = (a.ravel() for a in np.mgrid[:rows, :columns])
    column = 2 * column + row % 2 if hexagonal else column
    obs = pd.DataFrame({"array_row": row, "array_col": column}, index=[f"s{i}" for i in range(len(row))])
    adata = AnnData(np.ones((len(row), 2), dtype=np.float32), obs=obs)
    adata.obsm["spatial_um"] = np.stack([column * (50.0 if hexagonal else 100.0), row * 100.0], axis=1)
    return Section(adata, "t")


def scattered(n: int = 400, seed: int = 0) -> Section:
    adata = AnnData(np.ones((n, 1), dtype=np.float32), obs=pd.DataFrame(index=[f"s{i}" for i in range(n)]))
    adata.obsm["spatial_um"] = np.random.default_rng(seed).random((n, 2)) * 1000
    return Section(adata, "t")


@pytest.mark.parametrize(("share", "stride"), [(1.0, 1), (0.25, 2), (1 / 9, 3), (0.111, 3), (0.0625, 4)])
def test_a_quarter_of_a_lattice_is_every_second_row_and_column(share: float, stride: int) -> None:
    section = lattice()
    found = design(section, share)
    row, column = (section.adata.obs[c].to_numpy()[found.chosen] for c in ("array_row", "array_col"))
    assert np.array_equal(found.chosen, measured_mask(section, f"grid:{stride}+{row[0] % stride},{column[0] % stride}"))
    assert f"stride {stride}" in found.how


def test_the_phase_that_holds_most_spots() -> None:
    section = lattice(9, 9)
    torn = section.take(~((section.adata.obs["array_row"] == 0) & (section.adata.obs["array_col"] < 9)).to_numpy())
    found = design(torn, 0.25)  # rows 1..8 are left: 4 odd and 4 even ones; columns 0..8: 5 even, 4 odd
    assert found.chosen.sum() == 20
    assert (torn.adata.obs["array_col"].to_numpy()[found.chosen] % 2 == 0).all()


def test_a_hexagonal_lattice_gives_a_quarter_too() -> None:
    section = lattice(12, 12, hexagonal=True)
    found = design(section, 0.25)
    assert found.chosen.mean() == 0.25
    assert "phase" in found.how
    um = section.um[found.chosen]
    assert np.isclose(cKDTree(um).query(um, k=2)[0][:, 1], 200).all()


@pytest.mark.parametrize("share", [0.003, 0.2, 0.25, 0.5, 0.9])
def test_other_shares_and_cells_get_an_even_spread(share: float) -> None:
    section = scattered()
    chosen = design(section, share).chosen
    assert chosen.sum() == max(1, round(share * 400))
    if share == 0.2:
        gap = cKDTree(section.um[chosen]).query(section.um)[0].max()
        at_random = cKDTree(section.um[measured_mask(section, "random:0.2")]).query(section.um)[0].max()
        assert gap < at_random


def test_counts_are_never_read_and_the_order_does_not_matter() -> None:
    section = scattered()
    first = design(section, 0.3).chosen
    blind = section.without_counts()
    assert np.array_equal(design(blind, 0.3).chosen, first)
    order = np.random.default_rng(1).permutation(section.n_spots)
    assert np.array_equal(design(section.take(order), 0.3).chosen, first[order])
    assert not np.array_equal(design(section, 0.3, seed=1).chosen, first)


def test_each_point_is_the_farthest_from_those_before() -> None:
    points = np.random.default_rng(2).random((60, 2))
    chosen = farthest_points(points, 60)
    assert sorted(chosen) == list(range(60))
    for i in range(1, 59):
        distance = np.linalg.norm(points[:, None] - points[chosen[:i]], axis=2).min(axis=1)
        assert distance[chosen[i]] == pytest.approx(distance.max())


def test_spots_at_one_place_are_chosen_once_each() -> None:
    assert sorted(farthest_points(np.zeros((5, 2)), 5)) == [0, 1, 2, 3, 4]


def test_pixels_are_enough(tmp_path: Path) -> None:
    section = scattered()
    section.adata.obsm["spatial"] = section.adata.obsm.pop("spatial_um")
    chosen = design(section, 0.2).chosen
    path = write_barcodes(section, chosen, tmp_path / "b.txt")
    assert np.array_equal(measured_mask(section, f"file:{path}"), chosen)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_shares_without_a_meaning(share: float) -> None:
    with pytest.raises(UsageError, match="the share is"):
        design(lattice(), share)
    with pytest.raises(DataError, match="no spot"):
        design(lattice().take(np.zeros(108, dtype=bool)), 0.5)
