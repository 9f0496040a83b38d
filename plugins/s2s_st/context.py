"""Context (ours): spots whose surroundings look alike are alike, wherever they lie in the section.

The surroundings of a spot are the leading components kriged there, from the other measured spots only: a measured spot
is itself left out, so that what it looks like is known for measured and hidden spots in the same way. A second process
has a kernel over position and over these. It bends where a stationary kernel can not: across the edge of a gland.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import pdist
from stzoo.core.gp.blocks import FIT_SPOTS
from stzoo.core.gp.fitting import Choice, Spectrum, centred
from stzoo.core.gp.kernels import Indices, Matrix
from stzoo.plugins.s2s_st.scene import Scene
from stzoo.plugins.s2s_st.start import Start, chosen, kernels, start

COMPONENTS = 8
"""Leading components that describe the surroundings."""
WEIGHTS = (0.25, 0.5)
"""Shares of the variance given to the surroundings that are tried, beside 0."""
LENGTHS = (0.5, 1.0, 2.0)
"""Length scales over the surroundings that are tried, in median distances between measured spots."""
FEW = 3
"""Kernels kept beyond :data:`~stzoo.core.gp.blocks.FIT_SPOTS` measured spots."""


@dataclass(frozen=True)
class Context:
    """The second Gaussian process, chosen.

    Parameters
    ----------
    features
        float64 (spots, d), the surroundings of every spot of the section; 1 is a typical distance.
    choice
        Kernel and noise of each column.
    """

    features: Matrix
    choice: Choice

    @classmethod
    def of(cls, scene: Scene, first: Choice) -> Context:
        """Describe the surroundings of every spot by the first process, then choose kernels over both."""
        features = _surroundings(scene, first)
        places = replace(scene.places, features=features[scene.seen])
        blocks = [(places.take(block), centred(scene.columns[block])) for block in scene.fit_blocks()]
        plain = kernels(scene.spacing, _extent(scene))
        tried = plain + [
            replace(kernel, weight=weight, feature_length=length)
            for kernel in plain[::2]
            for weight in WEIGHTS
            for length in LENGTHS
        ]
        most = len(tried) if len(scene.seen) <= FIT_SPOTS else FEW
        return cls(features, chosen(tried, blocks, most))

    def start(self, scene: Scene, near: Indices, columns: Indices, at: Indices) -> Start:
        """Krige some columns at spots ``at`` from measured spots ``near`` (indices into ``scene.seen``)."""
        seen = replace(scene.places.take(near), features=self.features[scene.seen[near]])
        places = replace(scene.spots(at), features=self.features[at])
        return start(taken(self.choice, columns), seen, scene.columns[np.ix_(near, columns)], places)


def first_choice(scene: Scene) -> Choice:
    """Choose the kernels of the first process, over position alone."""
    blocks = [(scene.places.take(block), centred(scene.columns[block])) for block in scene.fit_blocks()]
    tried = kernels(scene.spacing, _extent(scene))
    return chosen(tried, blocks, len(tried) if len(scene.seen) <= FIT_SPOTS else FEW)


def taken(choice: Choice, columns: Indices) -> Choice:
    """Return the choice of some columns."""
    return Choice(choice.kernels, choice.kernel[columns], choice.noise[columns])


def _surroundings(scene: Scene, first: Choice) -> Matrix:
    """Return the leading components at every spot, itself left out, scaled to a typical distance of 1."""
    leading = np.arange(min(COMPONENTS, scene.n_components))
    choice, lattice = taken(first, leading), scene.lattice
    features = np.zeros((len(lattice.row), len(leading)))
    if not len(leading):
        return features
    for tile in scene.tiles():
        near, inside = scene.around(tile), tile.inside(lattice.row, lattice.col)
        if not len(near):
            continue
        own = np.isin(scene.seen[near], inside)
        y, places = scene.columns[np.ix_(near, leading)], scene.places.take(near)
        for kernel, columns in choice.groups():
            spectrum, noise = Spectrum.of(kernel, places), choice.noise[columns]
            features[np.ix_(inside, columns)] = spectrum.predict(scene.spots(inside), y[:, columns], noise)[0]
            left_out = spectrum.left_out(y[:, columns], noise)
            features[np.ix_(scene.seen[near[own]], columns)] = left_out[own]
    features *= scene.spread[leading]
    sample = features[scene.seen[np.unique(np.linspace(0, len(scene.seen) - 1, 500).astype(int))]]
    typical = float(np.median(pdist(sample))) if len(sample) > 1 else 0.0
    return features / typical if typical > 0 else features


def _extent(scene: Scene) -> float:
    return float(np.ptp(scene.places.um, axis=0).max())
