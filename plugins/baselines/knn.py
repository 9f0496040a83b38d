"""Inverse-distance weighting of the nearest measured spots of the same section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.errors import ConfigError
from stzoo.core.interfaces import Filled, Imputer, Progress
from stzoo.core.section import Floats, Section, Stack
from stzoo.plugins.baselines.local import CHUNK, Distances, Surroundings


@dataclass
class KnnConfig:
    """Options of ``knn``.

    Parameters
    ----------
    neighbours
        Measured spots that a hidden spot is guessed from.
    power
        Weights are distance to the power of minus this.
    """

    neighbours: int = 8
    power: float = 2.0

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        if self.neighbours < 1:
            raise ConfigError(f"neighbours is {self.neighbours}, expected at least 1", where="config of 'knn'")
        if not self.power >= 0:
            raise ConfigError(f"power is {self.power}, expected 0 or more", where="config of 'knn'")


class Knn(Imputer):
    """Inverse-distance weighting (Shepard 1968); confidence as :meth:`Surroundings.trust` has it."""

    name = "knn"
    config_class = KnnConfig
    config: KnnConfig

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill each section from its own measured spots (see :class:`Imputer`)."""
        return [self._fill(section, given) for section, given in zip(stack.sections, values, strict=True)]

    def _fill(self, section: Section, values: Floats) -> Filled:
        seen, um, k = Surroundings.of(section, values), section.um, self.config.neighbours
        out = np.empty(values.shape, dtype=np.float32)
        for start in range(0, len(um), CHUNK):
            distance, index = seen.near(um[start : start + CHUNK], k)
            out[start : start + CHUNK] = seen.mean(self._weights(distance), index)
        if len(seen.positions) < 2:
            return Filled(out, np.zeros(values.shape, dtype=np.float32))
        left_out, distance, index = seen.held_out(k)
        return Filled(out, seen.trust(um, seen.mean(self._weights(distance), index), left_out))

    def _weights(self, distance: Distances) -> Distances:
        nearest = np.maximum(distance[:, :1], 1e-6)  # µm; a spot at the very place takes (nearly) all the weight
        weights: Distances = (nearest / np.maximum(distance, 1e-6)) ** self.config.power
        return weights
