"""Grid-aligned interpolation: exact where it must be, on every stride and on irregular masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section, Stack
from stzoo.core.registry import model

Maker = Callable[..., Section]


@pytest.fixture
def whole(tissue: Maker) -> Maker:
    """Make a section whose spots are all measured."""

    def make(**options: int) -> Section:
        section = tissue(**options)
        section.adata.obs["measured"] = True
        return section

    return make


def filled(name: str, section: Section, field: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Let an imputer fill a field (n,), given as one gene, from its measured values."""
    values = np.where(measured, field, np.nan).astype(np.float32)[:, None]
    out = model(name).fill(Stack((section.take_genes(["G0"]).hide(measured),)), [values])[0]
    assert ((out.confidence >= 0) & (out.confidence <= 1)).all()
    return out.values[:, 0]


def ramp(section: Section) -> np.ndarray:
    row, column = (np.asarray(section.adata.obs[c], dtype=float) for c in ("array_row", "array_col"))
    return np.asarray(1 + 0.3 * row + 0.2 * column)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("rule", ["grid:2", "grid:2+1,0", "grid:2+1,1", "grid:3", "grid:3+2,1", "grid:4"])
def test_a_linear_ramp_comes_back_exactly_between_measured_spots(name: str, rule: str, whole: Maker) -> None:
    section = whole(rows=17, cols=21)
    measured = measured_mask(section, rule)
    um = section.um
    inside = ((um >= um[measured].min(axis=0)) & (um <= um[measured].max(axis=0))).all(axis=1)
    found, field = filled(name, section, ramp(section), measured), ramp(section)
    np.testing.assert_allclose(found[inside], field[inside], atol=1e-5)
    assert inside.sum() > 3 * measured.sum()


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_beyond_the_outermost_spots_the_edge_goes_on(name: str, whole: Maker) -> None:
    section = whole(rows=9, cols=8)
    measured = measured_mask(section, "grid:2+1,1")  # rows 1..7, columns 1..7
    found = filled(name, section, ramp(section), measured).reshape(9, 8)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[8], found[7], atol=1e-5)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_without_a_lattice_a_ramp_is_exact_inside_the_hull(name: str, whole: Maker) -> None:
    section = whole(rows=14, cols=14)
    um = section.um
    corner = (np.isin(um[:, 0], (0, 1300))) & (np.isin(um[:, 1], (0, 1300)))
    for rule in ("random:0.3+1", "random:0.5+2"):
        found = filled(name, section, ramp(section), measured_mask(section, rule) | corner)
        np.testing.assert_allclose(found, ramp(section), atol=1e-3)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_sections_without_array_positions(name: str, whole: Maker) -> None:
    section = whole(rows=14, cols=14)
    field = ramp(section)
    section.adata.obs = section.adata.obs.drop(columns=["array_row", "array_col"])
    measured = measured_mask(section, "random:0.3+1")
    found = filled(name, section, field, measured)
    assert np.corrcoef(found[~measured], field[~measured])[0, 1] > 0.95


def test_a_hole_of_the_tissue_takes_the_nearest_node(whole: Maker) -> None:
    section = whole(rows=9, cols=9)
    row, column = (np.asarray(section.adata.obs[c]) for c in ("array_row", "array_col"))
    torn = section.take(~((row == 4) & (column == 4)))  # a node that no spot sits on
    field = np.where((row >= 4) & (column >= 4), 3.0, 1.0)[~((row == 4) & (column == 4))]
    found = filled("bilinear", torn, field, measured_mask(torn, "grid:2"))
    assert np.isfinite(found).all()
    assert found.min() == 1
    assert found.max() == 3


def test_nearest_is_the_nearest(whole: Maker) -> None:
    section = whole(rows=12, cols=12)
    measured = measured_mask(section, "random:0.2+3")
    field = np.random.default_rng(0).random(section.n_spots)
    found = filled("nearest", section, field, measured)
    distance = np.linalg.norm(section.um[:, None] - section.um[measured], axis=2)
    for i, value in enumerate(found):
        nearest = field[measured][distance[i] <= distance[i].min() + 1e-6]
        assert np.isclose(nearest, value, atol=1e-6).any()


def test_genes_in_turns_give_the_same(tissue: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    section = tissue()
    at_once = model("bicubic").impute(section).adata.layers["imputed"]
    monkeypatch.setattr("stzoo.plugins.baselines.imputers.interpolate.VALUES", 400)
    in_turns = model("bicubic").impute(section).adata.layers["imputed"]
    np.testing.assert_allclose(in_turns, at_once, atol=1e-6)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("rule", ["grid:2", "grid:3", "random:0.25+7"])
def test_measured_spots_are_bit_equal_and_the_result_is_the_same_in_any_order(
    name: str, rule: str, whole: Maker
) -> None:
    section = whole(rows=11, cols=13)
    sparse = section.hide(measured_mask(section, rule))
    done = model(name).impute(sparse).adata.layers["imputed"]
    assert np.array_equal(done[sparse.measured], sparse.expression()[sparse.measured])
    again = model(name).impute(sparse).adata.layers["imputed"]
    assert np.array_equal(done, again)
    order = np.random.default_rng(5).permutation(section.n_spots)
    np.testing.assert_allclose(model(name).impute(sparse.take(order)).adata.layers["imputed"], done[order], atol=1e-5)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_a_row_of_spots_and_a_single_one(name: str, whole: Maker) -> None:
    section = whole(rows=1, cols=9)
    found = filled(name, section, ramp(section), measured_mask(section, "grid:2"))
    if name != "nearest":
        np.testing.assert_allclose(found, ramp(section), atol=1e-5)
    one = np.zeros(9, dtype=bool)
    one[4] = True
    np.testing.assert_allclose(filled(name, section, ramp(section), one), ramp(section)[4], rtol=1e-6)
