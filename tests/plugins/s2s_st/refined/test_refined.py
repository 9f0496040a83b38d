"""S2S-ST's refined variant: places, tiles, the refiner, and a confidence that means what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from s2s_st_sections import hexagonal, layers, patches, refined, section_of, truth_of
from scipy.spatial.distance import cdist
from stzoo.core.data.section import Section
from stzoo.core.gp.components import Components
from stzoo.core.gp.noise import relative_noise
from stzoo.core.metrics.calibration import Calibration
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.plugins.s2s_st.config import RefinerConfig
from stzoo.plugins.s2s_st.refined import tiles as tiling
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.refiner import Refiner
from stzoo.plugins.s2s_st.refined.tiles import Tile, cut_tiles


def scene_of(section: Section, components: int = 4) -> RefinedInputs:
    hidden = section.hide(section.measured)
    return RefinedInputs.of(hidden, hidden.expression(), components, seed=0)


def learned(channels: int = 6, seed: int = 0) -> Refiner:
    """A refiner whose last layer is not zero."""
    torch.manual_seed(seed)
    refiner = Refiner(RefinerConfig(channels, [1, 2]))
    torch.nn.init.normal_(refiner.last.weight)
    torch.nn.init.normal_(refiner.last.bias)
    return refiner.eval()


# Places


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("parity", [0, 1])
def test_the_six_neighbours_on_a_hexagonal_array_are_a_pitch_away(parity, first):
    section = hexagonal(rows=7, cols=6, parity=parity, first=first)
    row, col = (section.adata.obs[key].to_numpy() for key in ("array_row", "array_col"))
    scene = scene_of(section)
    everywhere = scene.spots(np.arange(section.n_spots)).um
    d_row, d_col = (np.abs(x[:, None] - x) for x in (row, col))
    neighbours = ((d_row == 0) & (d_col == 2)) | ((d_row == 1) & (d_col == 1))
    distance = cdist(everywhere, everywhere)
    np.testing.assert_allclose(distance[neighbours], 1, atol=1e-9)
    assert neighbours.sum(axis=1).max() == 6
    others = ~neighbours & ~np.eye(len(row), dtype=bool)
    assert distance[others].min() > 1.7
    np.testing.assert_array_equal(scene.places.um, everywhere[scene.seen])
    tile = scene.cut_tiles()[0]
    cells = scene.cells(tile).um[tile.number(scene.lattice.row, scene.lattice.col)]
    np.testing.assert_array_equal(cells, everywhere)


def test_a_hexagonal_array_without_its_first_column_or_row_has_the_same_distances():
    section = hexagonal(rows=8, cols=6)
    row, col = (section.adata.obs[key].to_numpy() for key in ("array_row", "array_col"))
    whole = scene_of(section).spots(np.arange(section.n_spots)).um
    for kept in (np.flatnonzero(col > 0), np.flatnonzero(row > 0), np.flatnonzero((row > 0) & (col > 1))):
        part = scene_of(section.take(kept)).spots(np.arange(len(kept))).um
        np.testing.assert_allclose(cdist(part, part), cdist(whole[kept], whole[kept]), atol=1e-9)


def test_places_of_a_square_lattice_are_rows_and_columns():
    section = patches(6, 7)
    scene = scene_of(section)
    expected = section.adata.obs[["array_row", "array_col"]].to_numpy()
    np.testing.assert_array_equal(scene.spots(np.arange(42)).um, expected)
    np.testing.assert_array_equal(scene.places.um, expected[section.measured])


def test_columns_are_genes_and_components_in_standard_deviations():
    section = patches(20, 20)
    section.adata.X[:, 3] = 0
    scene, values = scene_of(section), section.hide(section.measured).expression()[section.measured]
    k = scene.n_components
    assert k == 4
    varies = scene.spread > 0
    assert not varies[k + 3]
    assert varies.sum() == len(varies) - 1
    np.testing.assert_allclose(scene.columns[:, varies].std(axis=0), 1, atol=1e-6)
    back = scene.columns[:, k:] * scene.spread[k:] + scene.means
    np.testing.assert_allclose(back, values, atol=1e-5)
    found = Components.of(values - scene.means.astype(np.float32), 4, seed=0, weights=1 / scene.places.noise)
    np.testing.assert_allclose(np.abs((found.loadings * scene.loadings).sum(axis=1)), 1, atol=1e-4)


def test_spots_with_few_counts_are_noisier():
    noise = relative_noise(np.array([0.0, 10.0, 100.0, 100.0, 400.0]))
    assert noise[2] == noise[3] == 1
    assert noise[0] > noise[1] > 1 > noise[4] > 0


def test_deep_spots_count_more_than_shallow_ones():
    """Shallow spots all say "high", deep ones between them "low": hidden places are nearer to "low"."""
    row, col = (axis.ravel() for axis in np.mgrid[:16, :16])
    deep = ((row // 2 + col // 2) % 2 == 0) & True
    rate = np.where(deep[:, None], [0.2, 0.8], [0.8, 0.2])
    counts = np.rint(rate * np.where(deep, 4000, 40)[:, None])
    section = section_of(counts, row, col, (row % 2 == 0) & (col % 2 == 0))
    values, _ = layers(refined(steps=0).impute(section))
    seen = values[section.measured, 0]
    assert np.median(values[~section.measured, 0]) < (seen.min() + seen.max()) / 2 - 0.05


# Tiles

GRID = st.tuples(st.integers(1, 90), st.integers(1, 90))


@settings(max_examples=60, deadline=None)
@given(shape=GRID, many=st.booleans(), share=st.floats(0.01, 1.0))
def test_cores_cover_the_grid_once_and_lie_in_their_outer_rectangles(shape, many, share):
    measured = tiling.WHOLE + 1 if many else tiling.WHOLE
    found = list(cut_tiles(shape, measured, share))
    assert many or len(found) == 1
    row, col = (axis.ravel() for axis in np.mgrid[: shape[0], : shape[1]])
    times = np.zeros(len(row), dtype=int)
    margin = tiling.MARGIN / np.sqrt(share)
    for tile in found:
        inside, around = tile.inside(row, col), tile.around(row, col)
        times[inside] += 1
        assert np.isin(inside, around).all()
        assert len(around) == np.prod(tile.shape)
        spans = zip((tile.rows, tile.cols), (tile.outer_rows, tile.outer_cols), shape, strict=True)
        for (a, b), (first, last), n in spans:
            assert first == 0 or a - first >= margin
            assert last == n or last - b >= margin
            assert 0 <= first <= a < b <= last <= n
    assert (times == 1).all()


@settings(max_examples=40, deadline=None)
@given(rows=GRID, cols=GRID)
def test_places_of_a_tile_are_numbered_row_by_row(rows, cols):
    (r0, r), (c0, c) = rows, cols
    tile = Tile((r0, r0 + r), (c0, c0 + c), (r0, r0 + r), (c0, c0 + c))
    row, col = tile.cells()
    np.testing.assert_array_equal(tile.number(row, col), np.arange(r * c))
    assert (row[0], col[0]) == (r0, c0)
    assert (row[-1], col[-1]) == (r0 + r - 1, c0 + c - 1)
    np.testing.assert_array_equal(tile.around(row, col), np.arange(r * c))
    assert not len(tile.around(row + r, col))


def test_many_tiles_give_nearly_what_one_gives(monkeypatch):
    section = patches(32, 34, genes=6, depth=600)
    hidden = ~section.measured
    whole = layers(refined(steps=0).impute(section))
    monkeypatch.setattr(tiling, "WHOLE", 50)
    monkeypatch.setattr(tiling, "CORE", 8.0)
    assert len(scene_of(section).cut_tiles()) == 6
    tiled = layers(refined(steps=0).impute(section))
    assert not np.array_equal(whole[0], tiled[0])
    pcc = per_gene_pcc(whole[0][hidden], tiled[0][hidden])
    assert pcc.min() > 0.95, pcc
    assert np.abs(whole[1] - tiled[1])[hidden].mean() < 0.05


def test_tiles_without_a_measured_spot_are_the_mean(monkeypatch):
    monkeypatch.setattr(tiling, "WHOLE", 20)
    monkeypatch.setattr(tiling, "CORE", 4.0)
    monkeypatch.setattr(tiling, "MARGIN", 1.0)
    section = patches(12, 60)
    section.adata.obs["measured"] &= section.adata.obs["array_col"] < 20
    values, confidence = layers(refined().impute(section))
    far = section.adata.obs["array_col"].to_numpy() > 45
    assert np.ptp(values[far], axis=0).max() == 0
    assert np.abs(values[far][0] - values[section.measured].mean(axis=0)).max() < 0.15
    assert (confidence[far] == 0).all()


# The refiner


def test_an_untrained_refiner_changes_nothing():
    refiner = Refiner(RefinerConfig())
    x = torch.randn(3, 5, 9, 11)
    assert torch.equal(refiner(x), torch.zeros(3, 9, 11))
    assert torch.equal(refiner.average_mirrored(x), torch.zeros(3, 9, 11))


@pytest.mark.parametrize("dims", [[2], [3], [2, 3]])
def test_the_mean_over_poses_follows_mirror_images(dims):
    refiner, x = learned(), torch.rand(2, 5, 8, 11)
    flipped = [d - 1 for d in dims]
    with torch.inference_mode():
        mean, plain = refiner.average_mirrored(x), refiner(x)
        torch.testing.assert_close(refiner.average_mirrored(torch.flip(x, dims)), torch.flip(mean, flipped))
        assert not torch.allclose(refiner(torch.flip(x, dims)), torch.flip(plain, flipped), atol=1e-2)


def test_the_correction_fades_where_nothing_is_trusted():
    x = torch.rand(1, 5, 10, 10)
    x[:, 1, :, :5] = 0
    with torch.inference_mode():
        found = learned()(x)
    assert (found[:, :, :5] == 0).all()
    assert (found[:, :, 5:] != 0).all()


# Confidence


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), spots=st.integers(1, 40), genes=st.integers(1, 9), noise=st.floats(0, 30))
def test_confidence_grows_with_trust_and_is_a_share(seed, spots, genes, noise):
    rng = np.random.default_rng(seed)
    trust = [rng.random((spots, genes)) for _ in range(2)]
    explained = [rng.normal(0, noise, t.shape) + rng.normal() * t for t in trust]
    found = Calibration.of(trust, explained).apply(np.linspace(0, 1, 101))
    assert found.dtype == np.float32
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert found[0] == 0


@pytest.mark.parametrize("curve", [lambda t: 0.8 * t**2, lambda t: 0.2 + 0.5 * np.sqrt(t), lambda t: 0.9 - 0 * t])
def test_calibration_recovers_a_known_curve(curve):
    """Squared errors are chi-squared, so single values of explained variance are far from their mean."""
    rng = np.random.default_rng(0)
    trust = rng.random((400, 100))
    explained = 1 - (1 - curve(trust)) * rng.normal(size=trust.shape) ** 2
    at = np.linspace(0.05, 0.95, 19)
    found = Calibration.of([trust[:150], trust[150:]], [explained[:150], explained[150:]]).apply(at)
    np.testing.assert_allclose(found, curve(at), atol=0.05)


def test_without_held_out_spots_trust_is_left_as_it_is():
    at = np.linspace(0, 1, 11)
    for found in (Calibration.none(), Calibration.of([], []), Calibration.of([np.zeros((0, 4))], [np.zeros((0, 4))])):
        np.testing.assert_allclose(found.apply(at), at, atol=1e-7)


def test_confidence_is_the_share_of_variance_that_is_explained():
    """Sections of two depths; few held-out spots each, whose noise must not lift the confidence."""
    confidence, realised = [], []
    for depth in (40, 150):
        for seed in range(4):
            section = patches(26, 26, genes=10, depth=depth, seed=seed)
            hidden, truth = ~section.measured, truth_of(section)
            values, sure = layers(refined(steps=0, seed=seed).impute(section))
            confidence.append(sure[hidden].ravel())
            realised.append((1 - (truth - values)[hidden] ** 2 / truth[~hidden].var(axis=0)).ravel())
    sure, share = np.array(confidence), np.array(realised)
    for some in (slice(0, 4), slice(4, 8)):
        assert abs(sure[some].mean() - share[some].mean()) < 0.08
    assert np.abs(sure.mean(axis=1) - share.mean(axis=1)).mean() < 0.1
    assert sure[4:].mean() > sure[:4].mean() + 0.1  # depths differ, and it says so
    for some in np.array_split(np.argsort(sure.ravel(), kind="stable"), 4):
        assert abs(sure.ravel()[some].mean() - share.ravel()[some].mean()) < 0.1


def test_confidence_falls_with_distance_from_measured_spots():
    section = patches(24, 24)
    section.adata.obs["measured"] &= section.adata.obs["array_col"] < 12
    _, confidence = layers(refined(steps=0).impute(section))
    col = section.adata.obs["array_col"].to_numpy()
    near = (col < 12) & ~section.measured
    assert confidence[near].mean() > confidence[col > 18].mean() + 0.15
