"""The two Gaussian processes of the refined variant (ours): over position, and over position and tissue context.

Spots with similar surroundings have similar expression, wherever they lie in the section. The context of a spot is the
smoothest spatial factors of the section kriged there, from the other measured spots only: a measured spot is itself
left out, so that context means the same for measured and hidden spots. The second kernel is therefore not stationary:
it can change across the edge of a gland.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.linalg import eigh
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from stzoo.core.arrays import Doubles, Indices, Points
from stzoo.core.gp import Choice, Kernel, Places, Spectrum
from stzoo.core.gp.fitting import centre
from stzoo.core.gp.partition import FIT_SPOTS
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.kriging import KrigedMaps, choose_kernels, krige, list_kernels

NEIGHBOURS = 4
"""Nearest measured spots whose differences estimate the noise."""
RIDGE = 1e-3
"""Ridge on the noise covariance, as a share of the mean noise, so that no direction counts as noise-free."""


def smooth_factors(scores: Doubles, points: Points, weights: Doubles, count: int) -> Doubles:
    """Compute the spatially smoothest factors of scores: maximum autocorrelation factors (Switzer & Green 1984).

    Parameters
    ----------
    scores
        float64 (n, k), columns of mean 0.
    points
        float64 (n, 2), where the spots lie.
    weights
        float64 (n,), how much each spot counts, e.g. 1 / variance of its noise.
    count
        Factors wanted, at most.

    Returns
    -------
    float64 (n, min(count, k)), the noise of each of variance 1, the smoothest first; empty where nothing
    varies or there are no neighbours.
    """
    n, k = scores.shape
    few = min(NEIGHBOURS, n - 1)
    if few < 1 or not scores.any():
        return np.zeros((n, 0))
    near = np.asarray(cKDTree(points).query(points, k=few + 1)[1])[:, 1:]
    a, b = np.repeat(np.arange(n), few), near.ravel()
    shared = np.sqrt(weights[a] * weights[b])
    noise = _covariance(scores[a] - scores[b], shared) / 2
    noise += (RIDGE * np.trace(noise) / k + 1e-12) * np.eye(k)
    _, vectors = eigh(_covariance(scores, weights), noise)
    return np.asarray(scores @ vectors[:, ::-1][:, :count])


def _covariance(x: Doubles, weights: Doubles) -> Doubles:
    return np.asarray((x * (weights / weights.sum())[:, None]).T @ x)


FACTORS = 8
"""Number of spatial factors that describe the context."""
WEIGHTS = (0.25, 0.5, 0.75)
"""Candidate shares of variance for the context kernel, besides 0."""
LENGTHS = (0.5, 1.0, 2.0)
"""Candidate length scales over the context, in median context distances between measured spots."""
EVERY = 3
"""One in so many length scales over position is tried together with the context kernel."""
FEW = 3
"""Kernels kept beyond :data:`~stzoo.core.gp.partition.FIT_SPOTS` measured spots."""


class Process(Protocol):
    """A Gaussian process with fitted kernels."""

    def krige(self, inputs: RefinedInputs, near: Indices, columns: Indices, at: Indices) -> KrigedMaps:
        """Krige some columns at spots ``at`` from measured spots ``near`` (indices into ``inputs.seen``)."""
        ...


@dataclass(frozen=True)
class Position:
    """The first process, over position alone.

    Parameters
    ----------
    choice
        Kernel and noise of each column.
    """

    choice: Choice

    @classmethod
    def of(cls, inputs: RefinedInputs) -> Position:
        """Choose kernels."""
        blocks = [(inputs.places.take(block), centre(inputs.columns[block])) for block in inputs.fit_blocks()]
        tried = _list_position_kernels(inputs)
        return cls(choose_kernels(tried, blocks, _limit_kernels(inputs, tried)))

    def krige(self, inputs: RefinedInputs, near: Indices, columns: Indices, at: Indices) -> KrigedMaps:
        """Krige some columns (see :class:`Process`)."""
        y = inputs.columns[np.ix_(near, columns)]
        return krige(select_columns(self.choice, columns), inputs.places.take(near), y, inputs.spots(at))


@dataclass(frozen=True)
class Context:
    """The second process, over position and what surrounds a spot.

    Parameters
    ----------
    factors
        float64 (n, d), values of the smoothest factors at the measured spots, ``d <= FACTORS``.
    surroundings
        Kernel and noise of each factor, over position.
    typical
        Median distance of the surroundings of two measured spots.
    choice
        Kernel and noise of each column, over position and surroundings.
    """

    factors: Doubles
    surroundings: Choice
    typical: float
    choice: Choice

    @classmethod
    def of(cls, inputs: RefinedInputs) -> Context:
        """Compute the spatial factors and krige them, then choose kernels over position and context."""
        scores = inputs.columns[:, : inputs.n_components] * inputs.spread[: inputs.n_components]
        assert inputs.places.noise is not None  # these inputs always have it
        factors = smooth_factors(scores, inputs.places.um, 1 / inputs.places.noise, FACTORS)
        parts, plain = inputs.fit_blocks(), _list_position_kernels(inputs)
        blocks = [(inputs.places.take(part), centre(factors[part])) for part in parts]
        surroundings = choose_kernels(plain, blocks, _limit_kernels(inputs, plain))
        own = [_krige_left_out(surroundings, inputs.places.take(part), factors[part], None)[0] for part in parts]
        few = np.concatenate(own)[:: max(1, len(np.concatenate(own)) // 500)]
        typical = float(np.median(pdist(few))) if len(few) > 1 and factors.shape[1] else 0.0
        typical = typical if typical > 0 else 1.0
        places = [replace(inputs.places.take(part), features=f / typical) for part, f in zip(parts, own, strict=True)]
        blocks = [(at, centre(inputs.columns[part])) for part, at in zip(parts, places, strict=True)]
        tried = plain + [
            replace(kernel, weight=weight, feature_length=length)
            for kernel in plain[::EVERY]
            for weight in WEIGHTS
            for length in LENGTHS
        ]
        return cls(factors, surroundings, typical, choose_kernels(tried, blocks, _limit_kernels(inputs, tried)))

    def krige(self, inputs: RefinedInputs, near: Indices, columns: Indices, at: Indices) -> KrigedMaps:
        """Krige some columns (see :class:`Process`); the context is kriged from ``near`` too."""
        seen, places = inputs.places.take(near), inputs.spots(at)
        own, there = _krige_left_out(self.surroundings, seen, self.factors[near], places)
        seen, places = (replace(p, features=f / self.typical) for p, f in ((seen, own), (places, there)))
        return krige(select_columns(self.choice, columns), seen, inputs.columns[np.ix_(near, columns)], places)


def select_columns(choice: Choice, columns: Indices) -> Choice:
    """Return the fitted kernels and noise of some columns."""
    return Choice(choice.kernels, choice.kernel[columns], choice.noise[columns])


def _krige_left_out(choice: Choice, seen: Places, y: Doubles, at: Places | None) -> tuple[Doubles, Doubles]:
    """Krige columns, (n, c), at measured spots by leave-one-out, and at other places."""
    own, there = np.zeros_like(y), np.zeros((0 if at is None else len(at), y.shape[1]))
    for kernel, columns in choice.groups():
        spectrum, noise = Spectrum.of(kernel, seen), choice.noise[columns]
        own[:, columns] = spectrum.leave_one_out(y[:, columns], noise)
        if at is not None:
            there[:, columns] = spectrum.predict(at, y[:, columns], noise)[0]
    return own, there


def _list_position_kernels(inputs: RefinedInputs) -> list[Kernel]:
    """Return the kernels over position that are tried."""
    return list_kernels(inputs.spacing, float(np.ptp(inputs.places.um, axis=0).max()))


def _limit_kernels(inputs: RefinedInputs, tried: list[Kernel]) -> int:
    """Return how many kernels to keep at most: each costs an eigendecomposition of all measured spots of a tile."""
    return len(tried) if len(inputs.seen) <= FIT_SPOTS else FEW
