"""Gaussian means of the measured spots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from stzoo.core.data.sampling_rules import informative
from stzoo.core.imputer import Filled, Imputer

BLOCK = 256


@dataclass
class GoodConfig:
    """Options.

    Parameters
    ----------
    length_um
        Standard deviation of the Gaussian, µm.
    noise
        Spread of the noise that is added, in log-normalised expression.
    """

    length_um: float = 120.0
    noise: float = 0.01


class Good(Imputer):
    """Every spot is the Gaussian mean of the measured ones, and confidence falls with the distance to the nearest."""

    name = "good-imputer"
    config_class = GoodConfig

    def fill(self, stack, values, *, progress=None):
        """Fill each section from its own measured spots."""
        filled = []
        for number, (section, given) in enumerate(zip(stack.sections, values, strict=True)):
            filled.append(self._section(section, given, progress))
            if progress:
                progress(number + 1, len(stack))
        return filled

    def _section(self, section, given, progress):
        seen, um, length = informative(section), section.um, self.config.length_um
        values = given[seen]
        rng = np.random.default_rng(self.seed)
        out = np.empty(given.shape, dtype=np.float32)
        sure = np.empty(given.shape, dtype=np.float32)
        for start in range(0, len(um), BLOCK):
            part = slice(start, start + BLOCK)
            distance = cdist(um[part], um[seen])
            nearest = distance.min(axis=1, keepdims=True)
            if progress:
                progress(0, len(values))
            weight = np.exp((nearest**2 - distance**2) / (2 * length**2))
            weight /= weight.sum(axis=1, keepdims=True)
            out[part] = weight @ values
            out[part] += self.config.noise * rng.normal(size=(len(weight), 1))
            sure[part] = np.exp(-nearest / length)
        return Filled(out, sure)
