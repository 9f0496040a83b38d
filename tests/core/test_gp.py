"""Gaussian processes with noise by place, against dense solutions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process.kernels import Matern
from stzoo.core.gp.components import Components
from stzoo.core.gp.fitting import NOISE, Spectrum
from stzoo.core.gp.kernels import Kernel, Places

R = 5
"""Index of a noise ratio."""


def scene(n: int = 30, columns: int = 3) -> tuple[Places, Places, np.ndarray]:
    rng = np.random.default_rng(0)
    zeros = np.zeros(n, dtype=np.intp)
    seen = Places(rng.uniform(0, 10, (n, 2)), zeros, noise=rng.uniform(0.3, 3.0, n))
    return seen, Places(rng.uniform(0, 10, (7, 2)), zeros[:7]), rng.normal(size=(n, columns))


KERNEL = Kernel(3.0, shape="exponential")


def test_the_exponential_kernel_is_that_of_scikit_learn() -> None:
    seen, at, _ = scene()
    assert np.allclose(KERNEL.between(at, seen), Matern(3.0, nu=0.5)(at.um, seen.um))


def test_noise_by_place_is_a_dense_solve() -> None:
    seen, at, y = scene()
    noise = np.full(y.shape[1], R)
    k, cross = KERNEL.between(seen, seen), KERNEL.between(at, seen)
    inverse = np.linalg.inv(k + NOISE[R] * np.diag(seen.noise))
    mean, explained = Spectrum.of(KERNEL, seen).predict(at, y, noise)
    assert np.allclose(mean, cross @ inverse @ y)
    assert np.allclose(explained[:, 0], np.einsum("ij,jk,ik->i", cross, inverse, cross))


def test_noise_by_place_has_the_likelihood_of_its_covariance() -> None:
    seen, _, y = scene()
    k = KERNEL.between(seen, seen)
    found, direct = Spectrum.of(KERNEL, seen).likelihood(y)[:, 0], []
    for ratio in NOISE:
        covariance = k + ratio * np.diag(seen.noise)
        scale = y[:, 0] @ np.linalg.solve(covariance, y[:, 0]) / len(y)
        direct.append(multivariate_normal(cov=scale * covariance).logpdf(y[:, 0]))
    assert np.ptp(found - np.array(direct)) < 1e-6


@pytest.mark.parametrize("same", [True, False])
def test_leaving_out_is_solving_again(same: bool) -> None:
    seen, _, y = scene()
    seen = Places(seen.um, seen.section) if same else seen
    found = Spectrum.of(KERNEL, seen).left_out(y, np.full(y.shape[1], R))
    for out in (0, 11):
        rest = np.delete(np.arange(len(y)), out)
        alone, _ = Spectrum.of(KERNEL, seen.take(rest)).predict(seen.take(np.array([out])), y[rest], np.full(3, R))
        assert np.allclose(found[out], alone[0])


def test_components_follow_the_weights() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50, 1)) * 3
    y = np.vstack([first * [1.0, 0.0, 0.0], second * [0.0, 1.0, 0.0]]).astype(np.float32)
    for heavy in (0, 1):
        weights = np.where(np.arange(100) // 50 == heavy, 1.0, 0.01)
        found = Components.of(y, 1, seed=0, weights=weights)
        assert abs(found.loadings[0, heavy]) > 0.99
