"""Stacking (ours): a gene's prediction is a weighted sum of several kriged maps, by their cross-validated error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from stzoo.core.arrays import Doubles, Indices
from stzoo.core.metrics import Calibration
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.processes import Process
from stzoo.plugins.s2s_st.refined.section_training import split_held_out

FOLDS = 5
"""Folds of the cross-validation on measured spots that fits weights and confidence."""
GENES = 500
"""Genes used for it, at most, drawn at random."""


@dataclass(frozen=True)
class Members:
    """Kriged maps of some genes, centred, and the variance that each is expected to explain.

    Parameters
    ----------
    maps
        float64 (m, p) each, log-normalised less the gene's mean: reconstructed from components, one map for each
        process, and last the genes' own maps, by the last process.
    trust
        float64 (m, p) each, the share of a gene's variance that the map is expected to explain.
    """

    maps: Sequence[Doubles]
    trust: Sequence[Doubles]

    @classmethod
    def of(
        cls, inputs: RefinedInputs, processes: Sequence[Process], near: Indices, at: Indices, genes: Indices
    ) -> Members:
        """Predict genes at spots ``at`` from measured spots ``near`` (indices into ``inputs.seen``)."""
        k, maps, trust = inputs.n_components, [], []
        for process in processes:
            columns = np.arange(k) if process is not processes[-1] else np.concatenate([np.arange(k), k + genes])
            found = process.krige(inputs, near, columns.astype(np.intp), at)
            maps.append(inputs.combine_components(found.mean[:, :k], genes))
            trust.append(found.trust[:, :k] @ inputs.shares[:, genes])
        maps.append(found.mean[:, k:] * inputs.spread[k + genes])
        trust.append(found.trust[:, k:] * (inputs.spread[k + genes] > 0))
        return cls(maps, trust)

    def combine(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Return the weighted sum of the maps, and the weighted mean of their expected explained variance."""
        value = sum((w * m for w, m in zip(weights, self.maps, strict=True)), np.zeros_like(self.maps[0]))
        trust = sum((w * t for w, t in zip(weights, self.trust, strict=True)), np.zeros_like(self.maps[0]))
        return value, np.clip(trust / max(weights.sum(), 1e-12), 0, 1)


def weigh_equally(processes: Sequence[Process]) -> Doubles:
    """Return equal weights for all members: the fallback where nothing can be fitted."""
    count = len(processes) + 1
    return np.full(count, 1 / count)


def learn_weights(
    inputs: RefinedInputs, processes: Sequence[Process], rng: np.random.Generator
) -> tuple[Doubles, Calibration]:
    """Fit the stacking weights, and the calibration of the confidence, by cross-validation on measured spots.

    The weights are the same for all genes: stacking by non-negative least squares (Breiman 1996), in standard
    deviations of each gene, spots weighted by depth. Kernels are not chosen anew in each fold.

    Returns
    -------
    float64 (members,), and the curve from trust to confidence.
    """
    k = inputs.n_components
    varying = np.flatnonzero(inputs.spread[k:] > 0)
    genes = np.sort(rng.permutation(varying)[:GENES]).astype(np.intp)
    fold = rng.permutation(len(inputs.seen)) % FOLDS
    found, truth, noise = [], [], []
    assert inputs.places.noise is not None  # these inputs always have it
    for number in range(FOLDS):
        for _, asked, left in split_held_out(inputs, fold == number):
            found.append(Members.of(inputs, processes, left, inputs.seen[asked], genes))
            truth.append(inputs.columns[np.ix_(asked, k + genes)])
            noise.append(inputs.places.noise[asked])
    if not found:
        return weigh_equally(processes), Calibration.none()
    spread = inputs.spread[k + genes]
    weights = stack_members(found, truth, noise, spread)
    trust, explained = [], []
    for one, true in zip(found, truth, strict=True):
        value, believed = one.combine(weights)
        trust.append(believed)
        explained.append(1 - (true - value / spread) ** 2)
    return weights, Calibration.of(trust, explained)


def stack_members(
    found: Sequence[Members], truth: Sequence[Doubles], noise: Sequence[Doubles], spread: Doubles
) -> Doubles:
    """Fit the non-negative weights of the members by least squares.

    Parameters
    ----------
    found, truth, noise
        For each part: members; float64 (m, p) the true values in standard deviations; float64 (m,) relative noise.
    spread
        float64 (p,), the standard deviations.
    """
    triangle = np.zeros((0, len(found[0].maps) + 1))
    for one, true, variance in zip(found, truth, noise, strict=True):
        both = np.stack([*(values / spread for values in one.maps), true], axis=2) / np.sqrt(variance)[:, None, None]
        triangle = np.asarray(np.linalg.qr(np.vstack([triangle, both.reshape(-1, both.shape[2])]), mode="r"))
    weights: Doubles = nnls(triangle[:, :-1], triangle[:, -1])[0]
    return weights
