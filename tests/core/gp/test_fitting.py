"""Gaussian processes whose places differ in noise, against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import Matern
from stzoo.core.gp.components import Components
from stzoo.core.gp.fitting import NOISE, Choice, Spectrum, few, predict
from stzoo.core.gp.kernels import Kernel, Places

KERNELS = [Kernel(90.0, shape="exponential"), Kernel(200.0), Kernel(150.0, weight=0.4, shape="exponential")]


def scattered(n: int, seed: int = 0, noisy: bool = True) -> Places:
    rng = np.random.default_rng(seed)
    noise = np.exp(rng.normal(0, 0.8, n)) if noisy else None
    return Places(rng.uniform(0, 1000, (n, 2)), np.zeros(n, dtype=np.intp), rng.normal(size=(n, 3)), noise)


def columns(n: int, count: int, seed: int = 5) -> np.ndarray:
    y = np.random.default_rng(seed).normal(size=(n, count))
    return y - y.mean(axis=0)


def dense(kernel: Kernel, places: Places, ratio: float) -> np.ndarray:
    """K + r N."""
    assert places.noise is not None
    return kernel.between(places, places) + ratio * np.diag(places.noise)


@pytest.mark.parametrize("kernel", KERNELS)
def test_prediction_with_noise_by_place_is_the_dense_solution(kernel):
    places, at = scattered(50), scattered(20, seed=1, noisy=False)
    y, noise = columns(50, 3), np.array([0, 5, 12])
    mean, explained = Spectrum.of(kernel, places).predict(at, y, noise)
    cross = kernel.between(at, places)
    for i, r in enumerate(NOISE[noise]):
        gram = dense(kernel, places, r)
        np.testing.assert_allclose(mean[:, i], cross @ np.linalg.solve(gram, y[:, i]), atol=1e-9)
        share = (cross * np.linalg.solve(gram, cross.T).T).sum(axis=1)
        np.testing.assert_allclose(explained[:, i], share, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_likelihood_with_noise_by_place_ranks_noise_ratios_as_the_dense_one(kernel):
    places, y = scattered(40), columns(40, 2)
    ours = Spectrum.of(kernel, places).likelihood(y)
    theirs = np.empty_like(ours)
    for i, r in enumerate(NOISE):
        gram = dense(kernel, places, r)
        signal = (y * np.linalg.solve(gram, y)).sum(axis=0) / 40
        theirs[i] = -0.5 * np.linalg.slogdet(gram)[1] - 20 * np.log(signal)
    offset = ours - theirs
    np.testing.assert_allclose(offset, np.broadcast_to(offset[0, 0], offset.shape), atol=1e-7)
    assert np.ptp(ours, axis=0).min() > 1e-3


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_left_out_is_what_the_others_predict(kernel, noisy):
    places, y, noise = scattered(30, noisy=noisy), columns(30, 3), np.array([1, 4, 9])
    found = Spectrum.of(kernel, places).leave_one_out(y, noise)
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        alone = Spectrum.of(kernel, places.take(rest)).predict(places.take(np.array([i])), y[rest], noise)[0]
        np.testing.assert_allclose(found[i], alone[0], atol=1e-8)


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_known_of_a_left_out_place_is_what_the_others_explain(kernel, noisy):
    places, noise = scattered(30, noisy=noisy), np.array([1, 4, 9])
    found = Spectrum.of(kernel, places).explain_left_out(noise)
    own = np.ones(30) if places.noise is None else places.noise
    gram = kernel.between(places, places)
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        for column, ratio in enumerate(NOISE[noise]):
            cross = gram[i, rest]
            known = cross @ np.linalg.solve(gram[np.ix_(rest, rest)] + ratio * np.diag(own[rest]), cross)
            assert found[i, column] == pytest.approx(known, abs=1e-9)
    assert ((found >= 0) & (found <= 1)).all()
    assert np.ptp(found[:, 0]) > 0.05


def test_a_place_with_more_noise_counts_less():
    um = np.array([[0.0, 0], [20, 0], [10, 0]])
    places = Places(um[:2], np.zeros(2, dtype=np.intp), noise=np.array([0.2, 5.0]))
    at = Places(um[2:], np.zeros(1, dtype=np.intp))
    mean, _ = Spectrum.of(Kernel(50.0), places).predict(at, np.array([[1.0], [-1.0]]), np.array([4]))
    assert mean[0, 0] > 0.2


def test_equal_noise_is_the_same_as_none():
    bare, y, noise = scattered(25, noisy=False), columns(25, 2), np.array([3, 8])
    one = Places(bare.um, bare.section, bare.features, np.ones(25))
    a, b = (Spectrum.of(KERNELS[0], p) for p in (bare, one))
    np.testing.assert_allclose(a.likelihood(y), b.likelihood(y), atol=1e-9)
    np.testing.assert_allclose(a.predict(bare, y, noise), b.predict(bare, y, noise), atol=1e-9)
    np.testing.assert_allclose(a.leave_one_out(y, noise), b.leave_one_out(y, noise), atol=1e-9)


def test_the_exponential_kernel_is_that_of_scikit_learn():
    a, b = scattered(12), scattered(9, seed=3)
    ours = Kernel(130.0, shape="exponential").between(a, b)
    np.testing.assert_allclose(ours, Matern(130.0, nu=0.5)(a.um, b.um), atol=1e-12)
    assert not np.allclose(ours, Kernel(130.0).between(a, b), atol=1e-2)
    np.testing.assert_allclose(ours, np.exp(-cdist(a.um, b.um) / 130.0))


def test_a_choice_predicts_each_column_with_its_own_kernel_over_noisy_places():
    places, at, y = scattered(35), scattered(8, seed=2, noisy=False), columns(35, 4)
    choice = Choice(KERNELS, np.array([2, 0, 1, 0]), np.array([3, 0, 12, 7]))
    found = np.full((8, 4), np.nan)
    for rows, some, mean, _ in predict(choice, places, y, at):
        found[rows, some] = mean
    for i in range(4):
        kernel, r = KERNELS[choice.kernel[i]], NOISE[choice.noise[i]]
        expected = kernel.between(at, places) @ np.linalg.solve(dense(kernel, places, r), y[:, i])
        np.testing.assert_allclose(found[:, i], expected, atol=1e-9)


def test_few_kernels_serve_the_columns_best():
    likelihood = np.array([[9.0, 9, 0, 0], [6, 6, 6, 6], [0, 0, 9, 9], [5, 5, 5, 5]])
    assert few(likelihood, 1) == [1]
    assert few(likelihood, 3) == [0, 1, 2]


@pytest.mark.parametrize("shape", [(40, 9), (9, 40)])
def test_weighted_components_are_those_of_repeated_spots(shape):
    """A spot of weight 3 teaches what three spots do; every spot has its own scores."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=shape).astype(np.float32) * np.linspace(3, 1, shape[1], dtype=np.float32)
    times = rng.integers(1, 4, shape[0])
    weighted = Components.of(y, 3, seed=0, weights=times / times.sum())
    _, _, right = np.linalg.svd(np.repeat(y, times, axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs((weighted.loadings * right[:3]).sum(axis=1)), 1, atol=1e-5)
    np.testing.assert_allclose(weighted.scores, y @ weighted.loadings.T, atol=1e-4)
    np.testing.assert_allclose(weighted.variance, (y.astype(np.float64) ** 2).mean(axis=0), rtol=1e-6)
    plain = Components.of(y, 3, seed=0)
    assert np.abs((weighted.loadings * plain.loadings).sum(axis=1)).min() < 0.9999
    equal = Components.of(y, 3, seed=0, weights=np.full(shape[0], 7.0))
    np.testing.assert_allclose(equal.loadings, plain.loadings, atol=1e-5)
