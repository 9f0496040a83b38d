"""Likelihood and prediction of Gaussian processes that share kernels: one eigendecomposition serves every column.

A column is a gene or a principal component: y = f + noise with covariance s² (K + r I), where K is a correlation
matrix, r the ratio of noise to signal variance, and s² is profiled out (Rasmussen & Williams 2006, section 5.4.1).
With K = U diag(d) Uᵀ and w = Uᵀ y everything is a sum over eigenvalues. Where places differ in noise, with variances
proportional to N, K + r N is whitened first: N^-1/2 K N^-1/2 is decomposed, and N^-1/2 y takes the place of y.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from stzoo.core.arrays import Doubles, Floats, Indices
from stzoo.core.gp.kernels import Kernel, Places
from stzoo.core.runtime.ranks import ALONE, Ranks

NOISE = 2.0 ** np.arange(-4, 9)
"""Ratios of noise to signal variance that are tried."""
COLUMNS = 2048
"""Columns worked on at a time: memory is bounded by it, not by the number of genes."""
ROWS = 512
"""Places predicted at a time."""


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition of a kernel over some places."""

    kernel: Kernel
    places: Places
    values: Doubles  # (n,)
    vectors: Doubles  # (n, n)

    @classmethod
    def of(cls, kernel: Kernel, places: Places) -> Spectrum:
        """Decompose a kernel; eigenvalues below 0 are rounding and become 0."""
        k = kernel.between(places, places)
        if places.noise is not None:
            white = 1.0 / np.sqrt(places.noise)
            k *= white[:, None] * white
        values, vectors = eigh(k, driver="evd", overwrite_a=True, check_finite=False)
        return cls(kernel, places, np.maximum(values, 0.0), vectors)

    def whiten(self, y: Doubles) -> Doubles:
        """Return columns (n, g) or vectors by their places' noise, y / sqrt(noise)."""
        return y if self.places.noise is None else y / np.sqrt(self.places.noise)[:, None]

    def likelihood(self, y: Doubles) -> Doubles:
        """Return the profiled log marginal likelihood of each noise ratio and column.

        Parameters
        ----------
        y
            float64 (n, g), columns of mean 0.

        Returns
        -------
        float64 (len(NOISE), g), constants left out; 0 for columns that are 0 throughout.
        """
        n = len(self.places)
        squared = (self.vectors.T @ self.whiten(y)) ** 2  # (n, g)
        varies = squared.sum(axis=0) > 0
        spread = self.values[None, :] + NOISE[:, None]  # (r, n)
        signal = np.where(varies, (1.0 / spread) @ squared / n, 1.0)  # (r, g), the best s²
        fit = -0.5 * n * np.log(signal) - 0.5 * np.log(spread).sum(axis=1)[:, None]
        return np.where(varies, fit, 0.0)

    def predict(self, at: Places, y: Doubles, noise: Indices) -> tuple[Doubles, Doubles]:
        """Predict columns at places, each with its own noise ratio.

        Parameters
        ----------
        at
            Places to predict.
        y
            float64 (n, g), columns of mean 0.
        noise
            intp (g,), index into :data:`NOISE`.

        Returns
        -------
        float64 (m, g) the posterior mean, and float64 (m, g) the share of the prior variance of f that is
        explained, 1 - var(f | y) / var(f).
        """
        return Posterior.of(self, y, noise).at(at)

    def leave_one_out(self, y: Doubles, noise: Indices) -> Doubles:
        """Predict each place from all the others (Rasmussen & Williams 2006, section 5.4.2), float64 (n, g)."""
        spread = self.values[:, None] + NOISE
        solved = self.whiten(self.vectors @ ((self.vectors.T @ self.whiten(y)) / spread[:, noise]))
        diagonal = self.whiten(self.whiten(self.vectors**2 @ (1.0 / spread)))[:, noise]
        return np.asarray(y - solved / diagonal, dtype=np.float64)

    def explain_left_out(self, noise: Indices) -> Doubles:
        """Return the share of the signal's variance at each place that all the others explain (ibid.), (n, g)."""
        own = NOISE if self.places.noise is None else NOISE * self.places.noise[:, None]
        precision = self.whiten(self.whiten(self.vectors**2 @ (1.0 / (self.values[:, None] + NOISE))))  # (n, r)
        return np.asarray(np.clip(1.0 - (1.0 / precision - own), 0.0, 1.0)[:, noise], dtype=np.float64)


@dataclass(frozen=True)
class Posterior:
    """Columns that share a kernel, given what was measured: asked at any number of places.

    Parameters
    ----------
    spectrum
        The kernel over the measured places.
    weights
        float64 (n, g), of the eigenvectors in each column's mean.
    noise
        intp (g,), index into :data:`NOISE`.
    """

    spectrum: Spectrum
    weights: Doubles
    noise: Indices

    @classmethod
    def of(cls, spectrum: Spectrum, y: Doubles, noise: Indices) -> Posterior:
        """Condition on columns of mean 0, float64 (n, g), each with its own noise ratio."""
        spread = spectrum.values[:, None] + NOISE  # (n, r)
        return cls(spectrum, (spectrum.vectors.T @ spectrum.whiten(y)) / spread[:, noise], noise)

    def at(self, at: Places) -> tuple[Doubles, Doubles]:
        """Predict places, float64 (m, g) twice: see :meth:`Spectrum.predict`."""
        one = self.spectrum
        basis = one.kernel.between(at, one.places) @ one.whiten(one.vectors)  # (m, n)
        explained = np.clip(basis**2 @ (1.0 / (one.values[:, None] + NOISE)), 0.0, 1.0)  # (m, r)
        return basis @ self.weights, explained[:, self.noise]


@dataclass(frozen=True)
class Choice:
    """What the likelihood chose for each column: its kernel and its noise ratio.

    Parameters
    ----------
    kernels
        The kernels there were.
    kernel, noise
        intp (g,), indices into ``kernels`` and :data:`NOISE`.
    """

    kernels: Sequence[Kernel]
    kernel: Indices
    noise: Indices

    def reliability(self) -> Doubles:
        """Return the share of each column's variance that is signal, float64 (g,): 1 / (1 + r)."""
        return np.asarray(1.0 / (1.0 + NOISE[self.noise]), dtype=np.float64)

    def groups(self) -> Iterator[tuple[Kernel, Indices]]:
        """Yield each kernel in use with its columns, at most :data:`COLUMNS` at a time."""
        for number in np.unique(self.kernel):
            columns = np.flatnonzero(self.kernel == number)
            for start in range(0, len(columns), COLUMNS):
                yield self.kernels[number], columns[start : start + COLUMNS]


def centre(y: Doubles | Floats) -> Doubles:
    """Return columns, (n, g), with their means taken out, as :func:`likelihoods` wants them."""
    return np.asarray(y - y.mean(axis=0), dtype=np.float64)


def likelihoods(kernels: Sequence[Kernel], blocks: Sequence[tuple[Places, Doubles]], ranks: Ranks = ALONE) -> Doubles:
    """Return the log marginal likelihood, float64 (kernels, noise ratios, columns), added up over blocks of spots.

    Over more than one block this is the composite likelihood: each block is taken for independent of the others.

    Parameters
    ----------
    kernels
        Those to compare.
    blocks
        Places and columns, float64 (n, g), of mean 0.
    ranks
        The processes that share the kernels; all call this.
    """
    return np.stack(ranks.map_jobs(len(kernels), lambda number: _likelihood(kernels[number], blocks)))


def _likelihood(kernel: Kernel, blocks: Sequence[tuple[Places, Doubles]]) -> Doubles:
    total = np.zeros((len(NOISE), blocks[0][1].shape[1]))
    for places, y in blocks:
        spectrum = Spectrum.of(kernel, places)
        for start in range(0, y.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            total[:, columns] += spectrum.likelihood(y[:, columns])
    return total


def choose(kernels: Sequence[Kernel], likelihood: Doubles) -> Choice:
    """Return the kernel and noise ratio of greatest likelihood for each column."""
    best = likelihood.max(axis=1).argmax(axis=0)  # (g,)
    columns = np.arange(likelihood.shape[2])
    return Choice(kernels, best, likelihood[best, :, columns].argmax(axis=1))


def few(likelihood: Doubles, count: int) -> list[int]:
    """Return the kernels, at most ``count``, that together serve the columns best (each column takes its best one).

    Greedy: the first serves all columns best, each further one adds the most likelihood.
    """
    kept: list[int] = []
    served = np.full(likelihood.shape[1], -np.inf)
    for _ in range(min(count, len(likelihood))):
        kept.append(int(np.maximum(likelihood, served).sum(axis=1).argmax()))
        served = np.maximum(served, likelihood[kept[-1]])
    return sorted(set(kept))


def posteriors(choice: Choice, places: Places, y: Doubles | Floats) -> Iterator[tuple[Indices, Posterior]]:
    """Yield groups of columns with what is known of them after the measurements ``y``, (n, g), of mean 0."""
    spectrum: Spectrum | None = None
    for kernel, columns in choice.groups():
        if spectrum is None or spectrum.kernel != kernel:
            spectrum = Spectrum.of(kernel, places)
        yield columns, Posterior.of(spectrum, y[:, columns].astype(np.float64), choice.noise[columns])


def pieces(count: int) -> Iterator[slice]:
    """Yield slices of so many places, :data:`ROWS` at a time."""
    for start in range(0, count, ROWS):
        yield slice(start, min(start + ROWS, count))


def predict(
    choice: Choice, places: Places, y: Doubles, at: Places
) -> Iterator[tuple[slice, Indices, Doubles, Doubles]]:
    """Predict every column at places, a piece at a time.

    Yields
    ------
    Rows (a slice of ``at``), columns, the posterior mean and the explained share of the signal's variance, both
    float64 (rows, columns).
    """
    for columns, posterior in posteriors(choice, places, y):
        for rows in pieces(len(at)):
            yield rows, columns, *posterior.at(at.take(np.arange(rows.start, rows.stop)))
