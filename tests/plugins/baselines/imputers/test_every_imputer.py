"""What every baseline imputer must keep: measured values, secrets, order, and awkward sections."""

from __future__ import annotations

import numpy as np
import pytest
from stzoo.core.data.section import Section, Stack
from stzoo.core.discovery.manager import PluginManager
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model
from stzoo.core.specs import ModelSpec

IMPUTERS = ["gene-mean", "knn", "smooth", "kriging", "nearest", "bilinear", "bicubic"]


def layers(section: Section) -> tuple[np.ndarray, np.ndarray]:
    return section.adata.layers["imputed"], section.adata.layers["confidence"]


@pytest.fixture(params=IMPUTERS)
def name(request) -> str:
    return request.param


def test_every_baseline_is_listed_and_resolves():
    manager = PluginManager()
    plugin = manager.plugin("baselines")
    assert plugin.state == "loaded", plugin.trace
    names = {r.name for r in plugin.specs if isinstance(r, ModelSpec)}
    assert names == {*IMPUTERS, "transfer", "rigid", "affine-image", "ot", "colour-texture", "imagenet"}


def test_measured_values_come_back_bit_equal(name, tissue):
    section = tissue()
    values, confidence = layers(model(name).impute(section))
    measured = section.measured
    seen = section.hide(measured).expression()[measured]
    assert np.array_equal(values[measured], seen)
    assert (confidence[measured] == 1).all()
    assert np.isfinite(values).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_hidden_values_are_never_read(name, tissue):
    section = tissue()
    poisoned = tissue()
    poisoned.adata.X[~poisoned.measured] = 1e9
    for honest, told in zip(layers(model(name).impute(section)), layers(model(name).impute(poisoned)), strict=True):
        assert np.array_equal(honest, told)


def test_fill_never_reads_values_of_hidden_spots(name, tissue):
    section = tissue().hide(tissue().measured)
    values = section.expression()
    poisoned = values.copy()
    poisoned[~section.measured] = 1e9
    hidden = ~section.measured
    a, b = (model(name).fill(Stack((section,)), [v])[0] for v in (values, poisoned))
    assert np.array_equal(a.values[hidden], b.values[hidden])
    assert np.array_equal(a.confidence[hidden], b.confidence[hidden])


def test_the_order_of_spots_and_genes_does_not_matter(name, tissue):
    section = tissue()
    rng = np.random.default_rng(1)
    spots, genes = rng.permutation(section.n_spots), rng.permutation(section.n_genes)
    shuffled = Section(section.adata[spots][:, genes].copy(), "shuffled")
    for straight, mixed in zip(layers(model(name).impute(section)), layers(model(name).impute(shuffled)), strict=True):
        np.testing.assert_allclose(mixed, straight[spots][:, genes], atol=1e-4)


def test_same_input_same_output(name, tissue):
    first, second = (layers(model(name).impute(tissue())) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@pytest.mark.parametrize("measured", [1, 2, 3, 5])
def test_a_handful_of_measured_spots(name, measured, tissue):
    section = tissue(rows=4, cols=4)
    mask = np.zeros(section.n_spots, dtype=bool)
    mask[:measured] = True
    values, _ = layers(model(name).impute(section.hide(mask)))
    if measured == 1:
        np.testing.assert_allclose(values, np.broadcast_to(values[:1], values.shape), atol=1e-5)


def test_one_gene_and_one_spot(name, tissue):
    one_gene = tissue().take_genes(["G3"])
    assert layers(model(name).impute(one_gene))[0].shape == (one_gene.n_spots, 1)
    one_spot = tissue().take(np.array([0]))
    assert np.array_equal(layers(model(name).impute(one_spot))[0], one_spot.expression())


def test_all_measured_is_a_copy(name, tissue):
    section = tissue()
    section.adata.obs["measured"] = True
    values, confidence = layers(model(name).impute(section))
    assert np.array_equal(values, section.expression())
    assert (confidence == 1).all()


def test_none_measured_is_an_error(name, tissue):
    section = tissue()
    section.adata.obs["measured"] = False
    with pytest.raises(DataError, match="no measured spot"):
        model(name).impute(section)


def test_spots_without_counts_teach_nothing(name, tissue):
    section = tissue()
    empty = np.flatnonzero(section.measured)[::7]
    dropped = tissue()
    section.adata.X[empty] = 0
    mask = dropped.measured.copy()
    mask[empty] = False
    with_empty, _ = layers(model(name).impute(section))
    without, _ = layers(model(name).impute(dropped.hide(mask)))
    hidden = ~section.measured
    assert (with_empty[empty] == 0).all()
    np.testing.assert_allclose(with_empty[hidden], without[hidden], atol=1e-5)


def test_every_measured_spot_without_counts(name, tissue):
    section = tissue(rows=4, cols=4)
    section.adata.X[:] = 0
    assert (layers(model(name).impute(section))[0] == 0).all()


def test_constant_genes_stay_constant_and_are_not_trusted(name, tissue):
    section = tissue()
    section.adata.X[:, 2] = 0
    values, confidence = layers(model(name).impute(section))
    hidden = ~section.measured
    assert (values[:, 2] == 0).all()
    assert (confidence[hidden, 2] == 0).all()


def test_identical_positions(name, tissue):
    section = tissue(rows=6, cols=6)
    section.adata.obsm["spatial_um"][:] = 50.0
    assert np.isfinite(layers(model(name).impute(section))[0]).all()


def test_far_away_spots_are_filled(name, tissue):
    section = tissue()
    far = np.flatnonzero(~section.measured)[0]
    section.adata.obsm["spatial_um"][far] = 1e7
    values, confidence = layers(model(name).impute(section))
    assert np.isfinite(values).all()
    assert confidence[far].max() <= 0.5


def test_predictions_are_never_negative(name, tissue):
    assert layers(model(name).impute(tissue(depth=6)))[0].min() >= 0


@pytest.mark.parametrize("name", ["knn", "smooth", "kriging", "bilinear", "bicubic"])
def test_spatial_methods_beat_the_mean_on_a_smooth_field(name, tissue):
    section = tissue(rows=24, cols=24, depth=2000)
    hidden = ~section.measured
    truth = tissue(rows=24, cols=24, depth=2000).adata.X
    truth = np.log1p(truth / truth.sum(axis=1, keepdims=True) * 2000)[hidden]
    values, confidence = layers(model(name).impute(section))
    assert np.median(per_gene_pcc(truth, values[hidden])) > 0.8
    assert confidence[hidden].mean() > 0.3


def test_stacks_come_back_section_by_section(name, tissue):
    stack = Stack((tissue(name="a"), tissue(rows=9, cols=7, seed=3, name="b")))
    done = model(name).impute(stack)
    for before, after in zip(stack.sections, done.sections, strict=True):
        assert after.name == before.name
        assert layers(after)[0].shape == (before.n_spots, before.n_genes)
        assert (layers(after)[1][before.measured] == 1).all()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("knn", {"neighbours": 0}),
        ("knn", {"power": -1.0}),
        ("smooth", {"width_um": 0.0}),
        ("kriging", {"components": -1}),
        ("kriging", {"exact": 0}),
        ("kriging", {"neighbourhood": 3}),
        ("colour-texture", {"tile_px": 4}),
        ("colour-texture", {"context_um": [0.0]}),
        ("kriging", {"component": 3}),
    ],
)
def test_options_without_a_meaning_are_refused(name, config):
    with pytest.raises(ConfigError, match=next(iter(config))):
        model(name, config)


def test_knn_weights_are_inverse_squared_distances(tissue):
    section = tissue(rows=1, cols=4, genes=3)
    section.adata.obsm["spatial_um"] = np.array([[0.0, 0], [10, 0], [30, 0], [70, 0]])
    mask = np.array([True, False, True, True])
    hidden = section.hide(mask)
    values, _ = layers(model("knn", {"neighbours": 2}).impute(hidden))
    seen = hidden.expression()
    weights = np.array([1 / 10**2, 1 / 20**2])
    np.testing.assert_allclose(values[1], weights @ seen[[0, 2]] / weights.sum(), rtol=1e-5)


def test_smooth_with_a_given_width_is_the_gaussian_mean(tissue):
    section = tissue()
    seen = section.hide(section.measured).expression()
    um, measured = section.um, section.measured
    squared = ((um[~measured, None] - um[measured]) ** 2).sum(axis=2)
    weights = np.exp(-squared / (2 * 120.0**2))
    expected = weights @ seen[measured] / weights.sum(axis=1, keepdims=True)
    values, _ = layers(model("smooth", {"width_um": 120.0}).impute(section))
    np.testing.assert_allclose(values[~measured], expected, atol=1e-5)


def test_progress_is_told(tissue):
    told = []
    section = tissue()
    model("kriging").impute(section, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (int((~section.measured).sum()),) * 2
