"""Inverse-distance weighting of the nearest measured spots of the same section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from stzoo import ConfigError, FilledPart, PartImputer, Progress, Ranks, Stack
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.baselines.imputers._nearby import Surroundings, fill_around


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


class Knn(PartImputer):
    """Inverse-distance weighting (Shepard 1968); confidence as :meth:`Surroundings.trust` has it."""

    name = "knn"
    config_class = KnnConfig
    config: KnnConfig

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill blocks of spots (see :class:`Imputer`)."""
        for number, (section, given) in enumerate(zip(stack.sections, values, strict=True)):
            seen = Surroundings.of(section, given)
            yield from fill_around(number, section, seen, self.config.neighbours, self._weights, ranks)

    def _weights(self, distance: Doubles) -> Doubles:
        nearest = np.maximum(distance[:, :1], 1e-6)  # µm; a spot at the very place takes (nearly) all the weight
        weights: Doubles = (nearest / np.maximum(distance, 1e-6)) ** self.config.power
        return weights
