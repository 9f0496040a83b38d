"""Kriging against scikit-learn, its likelihood, its stacks, its blocks and its confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.stats import multivariate_normal, spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from stzoo.core.data.section import Section, Stack
from stzoo.core.geometry.transform import Transform
from stzoo.core.gp.components import Components
from stzoo.core.gp.fitting import NOISE, Spectrum, choose, likelihoods, predict
from stzoo.core.gp.kernels import Kernel, Places
from stzoo.core.gp.partition import halves, spread_out, surroundings
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model


def layers(section: Section) -> tuple[np.ndarray, np.ndarray]:
    return section.adata.layers["imputed"], section.adata.layers["confidence"]


def scattered(n: int, seed: int = 0) -> Places:
    rng = np.random.default_rng(seed)
    return Places(rng.uniform(0, 1000, (n, 2)), np.zeros(n, dtype=np.intp))


@pytest.mark.parametrize("length", [60.0, 250.0])
@pytest.mark.parametrize("noise", [0, 4, 9])
def test_prediction_and_variance_are_those_of_scikit_learn(length, noise):
    places, at = scattered(60), scattered(25, seed=1)
    rng = np.random.default_rng(2)
    y = rng.normal(size=(60, 3))
    y -= y.mean(axis=0)
    spectrum = Spectrum.of(Kernel(length), places)
    mean, explained = spectrum.predict(at, y, np.full(3, noise))
    kernel = Matern(length, nu=1.5) + WhiteKernel(NOISE[noise])
    reference = GaussianProcessRegressor(kernel, optimizer=None).fit(places.um, y)
    theirs, spread = reference.predict(at.um, return_std=True)
    np.testing.assert_allclose(mean, theirs, atol=1e-4)
    np.testing.assert_allclose(1 - explained + NOISE[noise], spread**2, atol=1e-4)


def test_the_likelihood_is_that_of_scikit_learn_up_to_the_scale():
    places = scattered(50)
    y = np.random.default_rng(3).normal(size=(50, 2))
    y -= y.mean(axis=0)
    ours = Spectrum.of(Kernel(200.0), places).likelihood(y)
    for noise, gene in ((0, 0), (6, 1)):
        gram = Kernel(200.0).between(places, places) + NOISE[noise] * np.eye(50)
        signal = y[:, gene] @ np.linalg.solve(gram, y[:, gene]) / 50
        expected = multivariate_normal.logpdf(y[:, gene], cov=signal * gram)
        assert ours[noise, gene] == pytest.approx(expected + 25 * (np.log(2 * np.pi) + 1), abs=1e-6)
        kernel = ConstantKernel(signal) * Matern(200.0, nu=1.5) + WhiteKernel(signal * NOISE[noise])
        theirs = GaussianProcessRegressor(kernel, optimizer=None).fit(places.um, y[:, gene])
        assert expected == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-6)


def test_the_likelihood_finds_the_parameters_that_made_the_data():
    places = scattered(300)
    gram = Kernel(200.0).between(places, places) + 0.5 * np.eye(300)
    y = np.linalg.cholesky(gram) @ np.random.default_rng(0).normal(size=(300, 40))
    kernels = [Kernel(length) for length in (50.0, 100.0, 200.0, 400.0, 800.0)]
    choice = choose(kernels, likelihoods(kernels, [(places, y)]))
    assert np.median(choice.kernel) == 2
    assert np.median(NOISE[choice.noise]) == 0.5


def test_every_column_is_predicted_with_its_own_kernel_and_noise():
    places, at = scattered(40), scattered(10, seed=1)
    y = np.random.default_rng(1).normal(size=(40, 5))
    y -= y.mean(axis=0)
    kernels = [Kernel(80.0), Kernel(300.0)]
    choice = choose(kernels, likelihoods(kernels, [(places, y)]))
    mean = np.full((10, 5), np.nan)
    for rows, columns, value, _ in predict(choice, places, y, at):
        mean[rows, columns] = value
    for gene in range(5):
        kernel = kernels[choice.kernel[gene]]
        gram = kernel.between(places, places) + NOISE[choice.noise[gene]] * np.eye(40)
        expected = kernel.between(at, places) @ np.linalg.solve(gram, y[:, gene])
        np.testing.assert_allclose(mean[:, gene], expected, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    length=st.floats(10, 2000),
    correlation=st.floats(0, 1),
    weight=st.floats(0, 1),
    feature_length=st.floats(0.2, 4),
    seed=st.integers(0, 99),
)
def test_kernels_are_correlations(length, correlation, weight, feature_length, seed):
    rng = np.random.default_rng(seed)
    places = Places(rng.uniform(0, 500, (30, 2)), rng.integers(0, 3, 30), rng.normal(size=(30, 4)))
    gram = Kernel(length, correlation, weight, feature_length).between(places, places)
    np.testing.assert_allclose(np.diag(gram), 1)
    np.testing.assert_allclose(gram, gram.T)
    assert np.linalg.eigvalsh(gram).min() > -1e-9


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (12, 12)])
def test_components_are_those_of_a_singular_value_decomposition(shape):
    y = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y -= y.mean(axis=0)
    parts = Components.of(y, 4, seed=0)
    left, size, right = np.linalg.svd(y, full_matrices=False)
    np.testing.assert_allclose(parts.scores @ parts.loadings, (left[:, :4] * size[:4]) @ right[:4], atol=1e-4)
    np.testing.assert_allclose(parts.loadings @ parts.loadings.T, np.eye(4), atol=1e-4)
    assert (parts.shares().sum(axis=0) <= 1 + 1e-5).all()


def test_coupling_helps_genes_that_vary_together(tissue):
    rng = np.random.default_rng(0)
    section = tissue(rows=20, cols=20, genes=40)
    wave = np.sin(section.um[:, 0] / 250) * np.cos(section.um[:, 1] / 300)
    rate = np.exp(np.outer(wave, rng.normal(size=40)))
    section.adata.X = rng.poisson(rate / rate.sum(axis=1, keepdims=True) * 60).astype(np.float32)
    hidden = ~section.measured
    truth = (rate / rate.sum(axis=1, keepdims=True))[hidden]
    alone, coupled = (
        np.median(per_gene_pcc(truth, layers(model("kriging", {"components": k}).impute(section))[0][hidden]))
        for k in (0, 20)
    )
    assert coupled > alone


def shifted_pair(tissue, shift: float) -> tuple[Section, Section]:
    """Two sections of one tissue: the first fully measured, the second sparsely, moved by a shift in µm."""
    full, sparse = tissue(seed=0, name="full"), tissue(seed=1, name="sparse")
    full.adata.obs["measured"] = True
    row, col = sparse.adata.obs["array_row"], sparse.adata.obs["array_col"]
    sparse.adata.obs["measured"] = (row % 4 == 0) & (col % 4 == 0)
    sparse.adata.obsm["spatial_um"] = sparse.adata.obsm["spatial_um"] + shift
    return full, sparse


def test_a_neighbouring_section_helps_once_it_is_aligned(tissue):
    full, sparse = shifted_pair(tissue, 5000.0)
    move = Transform(np.array([[1.0, 0.0, -5000.0], [0.0, 1.0, -5000.0]]))
    hidden = ~sparse.measured
    scores = []
    for data in (Stack((sparse,)), Stack((full, sparse)), Stack((full, sparse), transforms=(None, move))):
        truth = Section(sparse.adata.copy(), "t")
        truth.adata.obs["measured"] = True
        done = model("kriging").impute(data).sections[-1]
        scores.append(np.median(per_gene_pcc(truth.expression(target=1e4)[hidden], layers(done)[0][hidden])))
    alone, apart, aligned = scores
    assert aligned > alone + 0.1
    assert aligned > apart + 0.01


def test_spots_of_little_depth_count_for_less(tissue):
    section = tissue(rows=24, cols=24, depth=2000)
    shallow = np.random.default_rng(1).random(section.n_spots) < 0.5
    thinned = np.random.default_rng(2).binomial(section.adata.X.astype(int), np.where(shallow, 0.01, 1.0)[:, None])
    section.adata.X = thinned.astype(np.float32)
    hidden = ~section.measured
    full = Section(tissue(rows=24, cols=24, depth=2000).adata.copy(), "t")
    full.adata.obs["measured"] = True
    truth = full.expression(target=1e4)[hidden]
    error = [
        float(((layers(model("kriging", {"depth": on}).impute(section, target=1e4))[0][hidden] - truth) ** 2).mean())
        for on in (False, True)
    ]
    assert error[1] < 0.9 * error[0]


def test_the_means_of_sections_are_kept_apart(tissue):
    full, sparse = shifted_pair(tissue, 0.0)
    full.adata.X[:, 0] *= 20
    done = model("kriging").impute(Stack((full, sparse))).sections[1]
    seen = done.adata.layers["imputed"][sparse.measured].mean(axis=0)
    guessed = done.adata.layers["imputed"][~sparse.measured].mean(axis=0)
    np.testing.assert_allclose(seen, guessed, atol=0.5)


def test_blocks_change_little_and_confidence_neither(tissue):
    section = tissue(rows=40, cols=40, depth=800)
    exact = layers(model("kriging").impute(section))
    blocks = layers(model("kriging", {"exact": 100, "neighbourhood": 150}).impute(section))
    hidden = ~section.measured
    assert np.median(per_gene_pcc(exact[0][hidden], blocks[0][hidden])) > 0.99
    assert np.abs(exact[1] - blocks[1])[hidden].mean() < 0.05


def test_blocks_do_not_depend_on_the_order_of_spots(tissue):
    section = tissue(rows=30, cols=30)
    order = np.random.default_rng(0).permutation(section.n_spots)
    options = {"exact": 50, "neighbourhood": 60}
    straight = layers(model("kriging", options).impute(section))[0]
    mixed = layers(model("kriging", options).impute(section.take(order)))[0]
    np.testing.assert_allclose(mixed, straight[order], atol=2e-2)
    assert np.abs(mixed - straight[order]).mean() < 2e-3  # spots on a block's edge may change sides


def test_confidence_follows_distance_and_error(tissue):
    section = tissue(rows=30, cols=30, depth=150)
    row, col = section.adata.obs["array_row"], section.adata.obs["array_col"]
    section.adata.obs["measured"] = (row % 2 == 0) & (col % 2 == 0) & (col < 15)
    values, confidence = layers(model("kriging").impute(section))
    near = np.asarray(col < 15) & ~section.measured
    assert confidence[near].mean() > confidence[np.asarray(col > 20)].mean() + 0.1
    truth = Section(section.adata.copy(), "truth")
    truth.adata.obs["measured"] = True
    error = np.abs(truth.expression(target=150)[~section.measured] - values[~section.measured])
    assert spearmanr(confidence[~section.measured].mean(axis=1), error.mean(axis=1)).statistic < -0.2


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 300), most=st.integers(1, 60), seed=st.integers(0, 99))
def test_halves_cover_every_point_once(n, most, seed):
    points = np.random.default_rng(seed).uniform(size=(n, 2))
    parts = list(halves(points, most))
    assert max(len(part) for part in parts) <= most
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert len(spread_out(parts, 3)) == min(3, len(parts))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 200), count=st.integers(1, 80), seed=st.integers(0, 99))
def test_surroundings_are_the_nearest_to_the_box(n, count, seed):
    rng = np.random.default_rng(seed)
    points, block = rng.uniform(size=(n, 2)), rng.uniform(0.3, 0.6, (5, 2))
    found = surroundings(cKDTree(points), block, count)
    low, high = block.min(axis=0), block.max(axis=0)
    outside = np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0), axis=1)
    assert len(found) == min(n, count)
    left = np.setdiff1d(np.arange(n), found)
    assert not len(left) or outside[found].max() <= outside[left].min()
