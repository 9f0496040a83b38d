"""CSG, the confidence score generator: how far a pseudo-label is to be trusted (section 2.6, our reading)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.arrays import Doubles, Floats, Indices
from stzoo.core.metrics import Calibration
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.training import fit_short
from stzoo.plugins.st_dai.config import Confidence, CSGConfig
from stzoo.plugins.st_dai.inputs import StackInputs
from stzoo.plugins.st_dai.kriging import KrigingPredictions
from stzoo.plugins.st_dai.pseudo import TransferredLabels
from stzoo.plugins.st_dai.training import GeneratorTask
from torch import nn

HIDDEN, FEW = 16, 40
"""Hidden units of the generator; with fewer measured adjacent spots it is linear (section 2.6)."""
STEPS, RATE, DECAY = 200, 1e-2, 1e-2
LEAST = 8
"""With fewer measured adjacent spots nothing is fitted: the heuristic is used."""


@dataclass(frozen=True)
class Scores:
    """Confidence of pseudo-labels.

    Parameters
    ----------
    weight
        float64 (n, 1), or (n, g) with ``per_gene``, in (0, 1): weight of pseudo-labels in refinement.
    explained
        float64 (g,), share of a gene's variance that leave-one-out pseudo-labels explain at measured adjacent spots.
    curve
        From weight times ``explained`` to the share of variance that was explained at these spots.
    """

    weight: Doubles
    explained: Doubles
    curve: Calibration

    def estimate_confidence(self) -> Floats:
        """Return the share of a gene's variance expected to be explained at each spot, float32 (n, g) in [0, 1]."""
        return self.curve.apply(self.weight * self.explained)


def compute_confidence_features(inputs: StackInputs, kriged: KrigingPredictions, moved: TransferredLabels) -> Doubles:
    """Compute the features of the confidence model, float64 (n, 7), standardised over spots of adjacent sections.

    Distance of the nearest aligned central spot, likeness of the images there, spread among the spots carried over,
    disagreement of the two predictions, number of central spots around (section 2.6); and, ours, the explained share
    and the depth that kriging expects at the spot, since shallow spots are noisy.
    """
    scale = np.maximum(inputs.y.std(axis=0), 1e-9)
    r = np.column_stack(
        [
            np.minimum(moved.nearest, 3.0),
            moved.alike,
            moved.spread,
            np.abs((moved.genes - kriged.genes) / scale).mean(axis=1),
            moved.around,
            kriged.trust,
            kriged.depth,
        ]
    )
    own = r[inputs.section != inputs.central]
    spread = own.std(axis=0)
    return np.asarray(np.divide(r - own.mean(axis=0), spread, out=np.zeros_like(r), where=spread > 0))


def score_labels(
    inputs: StackInputs,
    labels: Doubles,
    kriged: KrigingPredictions,
    moved: TransferredLabels,
    config: CSGConfig,
    *,
    seed: int,
) -> Scores:
    """Estimate the confidence of pseudo-labels, calibrated on measured adjacent spots only.

    Parameters
    ----------
    labels
        float64 (n, g), pseudo-labels; leave-one-out predictions at measured spots.
    """
    own = inputs.of_adjacent()
    spots = inputs.seen[own]
    scale = np.maximum(inputs.y[own].std(axis=0), 1e-9)
    weight = 1 / inputs.noise[own]
    error = (labels[spots] - inputs.y[own]) ** 2
    base = np.average(inputs.y[own] ** 2, axis=0, weights=weight)
    explained = 1 - np.divide(np.average(error, axis=0, weights=weight), base, out=np.ones_like(base), where=base > 0)
    explained = np.clip(explained, 0.0, 1.0)
    relative = error / scale**2
    weight = _weigh_labels(inputs, kriged, moved, config, relative, seed)
    curve = Calibration.of([(weight * explained)[spots]], [1 - relative])
    return Scores(weight, explained, curve)


def _weigh_labels(
    inputs: StackInputs,
    kriged: KrigingPredictions,
    moved: TransferredLabels,
    config: CSGConfig,
    relative: Doubles,
    seed: int,
) -> Doubles:
    """Return the weights, float64 (n, 1) or (n, g); ``relative`` errors, (m, g), are of measured adjacent spots."""
    if config.kind is Confidence.none:
        return np.ones((len(inputs), 1))
    if config.kind is Confidence.heuristic or len(relative) < LEAST:
        apart = np.abs((moved.genes - kriged.genes) / np.maximum(inputs.y.std(axis=0), 1e-9))
        return np.asarray(np.exp(-(apart if config.per_gene else apart.mean(axis=1, keepdims=True))))
    asked = relative if config.per_gene else relative.mean(axis=1, keepdims=True)
    typical = np.maximum(np.median(asked, axis=0), 1e-9)
    spots = inputs.seen[inputs.of_adjacent()]
    return _fit_generator(compute_confidence_features(inputs, kriged, moved), spots, np.exp(-asked / typical), seed)


def _fit_generator(inputs: Doubles, spots: Indices, goal: Doubles, seed: int) -> Doubles:
    """Fit the confidence generator by cross-entropy, and predict the confidence of every spot."""
    x, target = torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(goal.astype(np.float32))
    d, out = inputs.shape[1], goal.shape[1]
    with use_seed(seed):
        net = nn.Linear(d, out)
        generator: nn.Module = net
        if len(spots) >= FEW:
            generator = nn.Sequential(nn.Linear(d, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, out))
    task = GeneratorTask(generator, x[torch.from_numpy(spots)], target, RATE, DECAY)
    fit_short(task, steps=STEPS, seed=seed, clip=None)
    with torch.inference_mode():
        return np.asarray(torch.sigmoid(generator(x).double()).numpy())  # in float32 a sigmoid reaches 1
