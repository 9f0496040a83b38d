"""Pseudo-labels by kriging (ours): the strongest simple control, its labels free of a spot's own measurement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from stzoo.core.arrays import Doubles, Indices
from stzoo.core.gp.fitting import Choice, Spectrum, predict
from stzoo.core.gp.stacked import blocks_around, choose_kernels
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.plugins.st_dai.scene import Scene

OWN = 0.3
"""Share of a gene's own map in its prediction; the rest comes from the components."""


@dataclass(frozen=True)
class Kriged:
    """What kriging says of every spot of a stack; of measured ones, what it says without their own measurement.

    Parameters
    ----------
    genes
        float64 (n, g), log-normalised expression less the section's mean.
    scores
        float64 (n, k), components.
    depth
        float64 (n,), log depth less the section's mean: how well the spot would have been measured.
    trust
        float64 (n,), share of the signal that is known, mean over components by their variance.
    """

    genes: Doubles
    scores: Doubles
    depth: Doubles
    trust: Doubles


def krige(scene: Scene, ranks: Ranks = ALONE) -> Kriged:
    """Krige genes, components and depth over the whole stack, measured spots left out in turn.

    Parameters
    ----------
    scene
        The stack.
    ranks
        The processes that share the choice of kernels and the blocks; all call this, and all have the result.
    """
    k = scene.components.scores.shape[1]
    columns = np.hstack([scene.components.scores.astype(np.float64), scene.depth[:, None], scene.y])
    choice = choose_kernels(
        scene.seen_places, columns, spacing=scene.spacing, extent=scene.extent, leading=k, ranks=ranks
    )
    value, known = np.zeros((len(scene), columns.shape[1])), np.zeros((len(scene), k))
    rest = np.ones(len(scene), dtype=bool)
    rest[scene.seen] = False
    own = [
        *_filled(scene, choice, columns, np.flatnonzero(rest), ranks),
        *_left_out(scene, choice, columns, ranks),
    ]
    for block in (one for part in ranks.each(ranks.world, lambda _: own) for one in part):
        value[block.spots], known[block.spots] = block.value, block.known
    scores = value[:, :k]
    genes = OWN * value[:, k + 1 :] + (1 - OWN) * scores @ scene.components.loadings.astype(np.float64)
    variance = (scene.components.scores.astype(np.float64) ** 2).mean(axis=0)
    reliable = known * choice.reliability()[:k]
    trust = reliable @ variance / variance.sum() if k else np.zeros(len(scene))
    return Kriged(genes, scores, value[:, k], trust)


@dataclass(frozen=True)
class _Block:
    """What kriging says of some spots, (m,): columns, float64 (m, c), and what is known of components, (m, k)."""

    spots: Indices
    value: Doubles
    known: Doubles

    @classmethod
    def empty(cls, spots: Indices, columns: int, components: int) -> _Block:
        """Return a block to be filled."""
        return cls(spots, np.zeros((len(spots), columns)), np.zeros((len(spots), components)))


def _filled(scene: Scene, choice: Choice, columns: Doubles, at: Indices, ranks: Ranks) -> Iterator[_Block]:
    """Predict spots ``at`` that have no measurement, this rank's of them."""
    k = scene.components.scores.shape[1]
    for part, near in blocks_around(scene.places.um[at], scene.places.um[scene.seen], ranks=ranks):
        block = _Block.empty(at[part], columns.shape[1], k)
        places = scene.places.take(block.spots)
        for rows, which, mean, explained in predict(choice, scene.seen_places.take(near), columns[near], places):
            block.value[rows, which] = mean
            first = which < k
            block.known[rows, which[first]] = explained[:, first]
        yield block


def _left_out(scene: Scene, choice: Choice, columns: Doubles, ranks: Ranks) -> Iterator[_Block]:
    """Predict every measured spot from the others around it, this rank's of them."""
    k, um = scene.components.scores.shape[1], scene.places.um[scene.seen]
    for part, near in blocks_around(um, um, ranks=ranks):
        places, own = scene.seen_places.take(near), np.searchsorted(near, part)
        block = _Block.empty(scene.seen[part], columns.shape[1], k)
        spectrum: Spectrum | None = None
        for kernel, which in choice.groups():
            if spectrum is None or spectrum.kernel != kernel:
                spectrum = Spectrum.of(kernel, places)
            noise = choice.noise[which]
            block.value[:, which] = spectrum.left_out(columns[np.ix_(near, which)], noise)[own]
            first = which < k
            block.known[:, which[first]] = spectrum.left_out_known(noise[first])[own]
        yield block
