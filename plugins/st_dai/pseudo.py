"""Pseudo-labels from the central section: expression at unmeasured spots (specification, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from stzoo.core.arrays import Doubles, Indices, Mask
from stzoo.plugins.st_dai.inputs import StackInputs

REACH = 1.5
"""Aligned spots of the central section farther than this (in pitches) are not used (section 2.4)."""
SHRINK = 20
"""n0 of the shrunk offset of each gene (section 2.4)."""


@dataclass(frozen=True)
class TransferredLabels:
    """Measurements of the central section transferred to every spot of the stack (to its own spots: leave-one-out).

    Parameters
    ----------
    genes
        float64 (n, g), log-normalised expression less the section's mean; 0 where no central spot is near.
    nearest
        float64 (n,), distance of the nearest aligned central spot, pitches.
    spread
        float64 (n,), standard deviation among the spots that were averaged, mean over genes in units of their own.
    around
        float64 (n,), central spots within :data:`REACH`, over 8.
    alike
        float64 (n,), cosine of a spot's image features and those of the spots that were averaged; 0 without features.
    """

    genes: Doubles
    nearest: Doubles
    spread: Doubles
    around: Doubles
    alike: Doubles


def transfer(inputs: StackInputs, neighbours: int) -> TransferredLabels:
    """Average the nearest aligned spots of the central section, weights Gaussian of half a pitch (our reading)."""
    own = inputs.of_section(inputs.central)
    source, y = inputs.seen[own], inputs.y[own]
    tree = cKDTree(inputs.places.um[source])
    count = min(neighbours + 1, len(source))
    distance, index = (np.asarray(x) for x in tree.query(inputs.places.um, k=np.arange(1, count + 1)))
    itself = source[index] == np.arange(len(inputs))[:, None]
    distance = np.where(itself, np.inf, distance)
    order = np.argsort(distance, axis=1, kind="stable")[:, : min(neighbours, max(count - 1, 1))]
    distance, index = np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)
    with np.errstate(invalid="ignore"):
        closeness = -(distance**2) / (2 * (inputs.pitch / 2) ** 2)
        weight = np.exp(closeness - closeness.max(axis=1, keepdims=True))
    weight = np.nan_to_num(weight)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    parts = weight.ravel(), index.ravel(), np.arange(len(index) + 1) * index.shape[1]
    rows = csr_array(parts, shape=(len(index), len(source)))
    genes = rows @ y
    scale = np.maximum(inputs.y.std(axis=0), 1e-9)
    spread = (np.sqrt(np.maximum(rows @ y**2 - genes**2, 0.0)) / scale).mean(axis=1)
    nearest = np.minimum(distance[:, 0], 1e6 * inputs.pitch) / inputs.pitch
    near = tree.query_ball_point(inputs.places.um, REACH * inputs.pitch, return_length=True)
    around = (np.asarray(near) - itself.any(axis=1)) / 8
    genes = np.where((nearest <= REACH)[:, None], _add_offsets(inputs, genes, nearest <= REACH), 0.0)
    return TransferredLabels(genes, nearest, spread, around, _compare_images(inputs, source, rows))


def _add_offsets(inputs: StackInputs, genes: Doubles, reached: Mask) -> Doubles:
    """Add each adjacent section's shrunk offset per gene, each measured spot left out of its own (section 2.4).

    It is learned from the measured spots that the central section reaches.
    """
    out = genes.copy()
    for number in inputs.adjacent:
        own = inputs.of_section(number)
        own = own[reached[inputs.seen[own]]]
        spots, n = inputs.seen[own], len(own)
        left = inputs.y[own] - genes[spots]
        total = left.sum(axis=0)
        out[inputs.section == number] += total / (n + SHRINK)
        out[spots] = genes[spots] + (total - left) / (n - 1 + SHRINK)
    return out


def _compare_images(inputs: StackInputs, source: Indices, rows: csr_array) -> Doubles:
    features = inputs.places.features
    if features is None:
        return np.zeros(len(inputs))
    mean = rows @ features[source]
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(mean, axis=1)
    return np.asarray((features * mean).sum(axis=1) / np.maximum(lengths, 1e-12))
