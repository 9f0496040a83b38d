"""The two processes of the refined variant (ours): over position, and over position and context.

Context: spots whose surroundings look alike are alike, wherever they lie in the section. The surroundings of a spot are
the smoothest factors of the section kriged there, from the other measured spots only: a measured spot is itself left
out, so that what it looks like is known for measured and hidden spots in the same way. The kernel of the second process
bends where a stationary one can not: across the edge of a gland.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.linalg import eigh
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from stzoo.core.arrays import Doubles, Indices, Points
from stzoo.core.gp.blocks import FIT_SPOTS
from stzoo.core.gp.fitting import Choice, Spectrum, centred
from stzoo.core.gp.kernels import Kernel, Places
from stzoo.plugins.s2s_st.refined.inputs import Scene
from stzoo.plugins.s2s_st.refined.kriging import Start, chosen, kernels, start

NEIGHBOURS = 4
"""Nearest measured spots whose differences tell the noise."""
RIDGE = 1e-3
"""Share of the mean noise that is added to the noise of every direction, so that none is taken for free of it."""


def smooth_factors(scores: Doubles, points: Points, weights: Doubles, count: int) -> Doubles:
    """Rotate scores to the directions that neighbours share most.

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
"""Smoothest factors that describe the surroundings."""
WEIGHTS = (0.25, 0.5, 0.75)
"""Shares of the variance given to the surroundings that are tried, beside 0."""
LENGTHS = (0.5, 1.0, 2.0)
"""Length scales over the surroundings that are tried, in median distances between measured spots."""
EVERY = 3
"""Of the length scales over position, one in so many is tried together with surroundings."""
FEW = 3
"""Kernels kept beyond :data:`~stzoo.core.gp.blocks.FIT_SPOTS` measured spots."""


class Process(Protocol):
    """A Gaussian process whose kernels are chosen."""

    def start(self, scene: Scene, near: Indices, columns: Indices, at: Indices) -> Start:
        """Krige some columns at spots ``at`` from measured spots ``near`` (indices into ``scene.seen``)."""
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
    def of(cls, scene: Scene) -> Position:
        """Choose kernels."""
        blocks = [(scene.places.take(block), centred(scene.columns[block])) for block in scene.fit_blocks()]
        tried = _plain(scene)
        return cls(chosen(tried, blocks, _most(scene, tried)))

    def start(self, scene: Scene, near: Indices, columns: Indices, at: Indices) -> Start:
        """Krige some columns (see :class:`Process`)."""
        y = scene.columns[np.ix_(near, columns)]
        return start(taken(self.choice, columns), scene.places.take(near), y, scene.spots(at))


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
    def of(cls, scene: Scene) -> Context:
        """Find the factors and krige them, then choose kernels over position and surroundings."""
        scores = scene.columns[:, : scene.n_components] * scene.spread[: scene.n_components]
        assert scene.places.noise is not None  # a scene always has it
        factors = smooth_factors(scores, scene.places.um, 1 / scene.places.noise, FACTORS)
        parts, plain = scene.fit_blocks(), _plain(scene)
        blocks = [(scene.places.take(part), centred(factors[part])) for part in parts]
        surroundings = chosen(plain, blocks, _most(scene, plain))
        own = [_kriged(surroundings, scene.places.take(part), factors[part], None)[0] for part in parts]
        few = np.concatenate(own)[:: max(1, len(np.concatenate(own)) // 500)]
        typical = float(np.median(pdist(few))) if len(few) > 1 and factors.shape[1] else 0.0
        typical = typical if typical > 0 else 1.0
        places = [replace(scene.places.take(part), features=f / typical) for part, f in zip(parts, own, strict=True)]
        blocks = [(at, centred(scene.columns[part])) for part, at in zip(parts, places, strict=True)]
        tried = plain + [
            replace(kernel, weight=weight, feature_length=length)
            for kernel in plain[::EVERY]
            for weight in WEIGHTS
            for length in LENGTHS
        ]
        return cls(factors, surroundings, typical, chosen(tried, blocks, _most(scene, tried)))

    def start(self, scene: Scene, near: Indices, columns: Indices, at: Indices) -> Start:
        """Krige some columns (see :class:`Process`); the surroundings are read off ``near`` as well."""
        seen, places = scene.places.take(near), scene.spots(at)
        own, there = _kriged(self.surroundings, seen, self.factors[near], places)
        seen, places = (replace(p, features=f / self.typical) for p, f in ((seen, own), (places, there)))
        return start(taken(self.choice, columns), seen, scene.columns[np.ix_(near, columns)], places)


def taken(choice: Choice, columns: Indices) -> Choice:
    """Return the choice of some columns."""
    return Choice(choice.kernels, choice.kernel[columns], choice.noise[columns])


def _kriged(choice: Choice, seen: Places, y: Doubles, at: Places | None) -> tuple[Doubles, Doubles]:
    """Krige columns, (n, c), at the places of measured spots, each itself left out, and at other places."""
    own, there = np.zeros_like(y), np.zeros((0 if at is None else len(at), y.shape[1]))
    for kernel, columns in choice.groups():
        spectrum, noise = Spectrum.of(kernel, seen), choice.noise[columns]
        own[:, columns] = spectrum.left_out(y[:, columns], noise)
        if at is not None:
            there[:, columns] = spectrum.predict(at, y[:, columns], noise)[0]
    return own, there


def _plain(scene: Scene) -> list[Kernel]:
    """Return the kernels over position that are tried."""
    return kernels(scene.spacing, float(np.ptp(scene.places.um, axis=0).max()))


def _most(scene: Scene, tried: list[Kernel]) -> int:
    """Return how many kernels may be kept: each costs an eigendecomposition of all measured spots of a tile."""
    return len(tried) if len(scene.seen) <= FIT_SPOTS else FEW
