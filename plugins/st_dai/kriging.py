"""Pseudo-labels by kriging (ours); those of measured spots are leave-one-out predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from stzoo import Ranks
from stzoo.core.arrays import Doubles, Indices
from stzoo.core.gp import Choice, Spectrum, blocks_around, choose_kernels, predict
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.st_dai.inputs import StackInputs

OWN = 0.3
"""Share of a gene's own map in its prediction; the rest comes from the components."""


@dataclass(frozen=True)
class KrigingPredictions:
    """Kriging predictions for every spot of a stack; leave-one-out at measured spots.

    Parameters
    ----------
    genes
        float64 (n, g), log-normalised expression less the section's mean.
    scores
        float64 (n, k), components.
    depth
        float64 (n,), log depth, centred by section: the depth expected at the spot.
    trust
        float64 (n,), explained share of the signal, mean over components weighted by their variance.
    """

    genes: Doubles
    scores: Doubles
    depth: Doubles
    trust: Doubles


def krige(inputs: StackInputs, ranks: Ranks = ALONE) -> KrigingPredictions:
    """Krige genes, components and depth over the whole stack, leave-one-out at measured spots.

    Parameters
    ----------
    inputs
        The stack.
    ranks
        The processes that share the choice of kernels and the blocks; all call this, and all have the result.
    """
    k = inputs.components.scores.shape[1]
    columns = np.hstack([inputs.components.scores.astype(np.float64), inputs.depth[:, None], inputs.y])
    choice = choose_kernels(
        inputs.seen_places, columns, spacing=inputs.spacing, extent=inputs.extent, leading=k, ranks=ranks
    )
    value, known = np.zeros((len(inputs), columns.shape[1])), np.zeros((len(inputs), k))
    rest = np.ones(len(inputs), dtype=bool)
    rest[inputs.seen] = False
    own = [
        *_predict_hidden(inputs, choice, columns, np.flatnonzero(rest), ranks),
        *_predict_left_out(inputs, choice, columns, ranks),
    ]
    for block in (one for part in ranks.map_jobs(ranks.world, lambda _: own) for one in part):
        value[block.spots], known[block.spots] = block.value, block.known
    scores = value[:, :k]
    genes = OWN * value[:, k + 1 :] + (1 - OWN) * scores @ inputs.components.loadings.astype(np.float64)
    variance = (inputs.components.scores.astype(np.float64) ** 2).mean(axis=0)
    reliable = known * choice.reliability()[:k]
    trust = reliable @ variance / variance.sum() if k else np.zeros(len(inputs))
    return KrigingPredictions(genes, scores, value[:, k], trust)


@dataclass(frozen=True)
class _KrigedBlock:
    """Predictions for some spots, (m,): columns, float64 (m, c), and explained share of components, (m, k)."""

    spots: Indices
    value: Doubles
    known: Doubles

    @classmethod
    def allocate(cls, spots: Indices, columns: int, components: int) -> _KrigedBlock:
        """Return a block of zeros, to be filled in."""
        return cls(spots, np.zeros((len(spots), columns)), np.zeros((len(spots), components)))


def _predict_hidden(
    inputs: StackInputs, choice: Choice, columns: Doubles, at: Indices, ranks: Ranks
) -> Iterator[_KrigedBlock]:
    """Predict this rank's share of the unmeasured spots ``at``."""
    k = inputs.components.scores.shape[1]
    for part, near in blocks_around(inputs.places.um[at], inputs.places.um[inputs.seen], ranks=ranks):
        block = _KrigedBlock.allocate(at[part], columns.shape[1], k)
        places = inputs.places.take(block.spots)
        for rows, which, mean, explained in predict(choice, inputs.seen_places.take(near), columns[near], places):
            block.value[rows, which] = mean
            first = which < k
            block.known[rows, which[first]] = explained[:, first]
        yield block


def _predict_left_out(inputs: StackInputs, choice: Choice, columns: Doubles, ranks: Ranks) -> Iterator[_KrigedBlock]:
    """Predict this rank's share of the measured spots, each from the others around it."""
    k, um = inputs.components.scores.shape[1], inputs.places.um[inputs.seen]
    for part, near in blocks_around(um, um, ranks=ranks):
        places, own = inputs.seen_places.take(near), np.searchsorted(near, part)
        block = _KrigedBlock.allocate(inputs.seen[part], columns.shape[1], k)
        spectrum: Spectrum | None = None
        for kernel, which in choice.groups():
            if spectrum is None or spectrum.kernel != kernel:
                spectrum = Spectrum.of(kernel, places)
            noise = choice.noise[which]
            block.value[:, which] = spectrum.leave_one_out(columns[np.ix_(near, which)], noise)[own]
            first = which < k
            block.known[:, which[first]] = spectrum.explain_left_out(noise[first])[own]
        yield block
