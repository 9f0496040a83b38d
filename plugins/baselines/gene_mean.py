"""The smallest imputer: every hidden spot gets each gene's mean over the measured spots of its section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.interfaces import Filled, Imputer, Progress
from stzoo.core.measured import informative
from stzoo.core.section import Floats, Stack


@dataclass
class GeneMeanConfig:
    """Nothing to choose."""


class GeneMean(Imputer):
    """The mean over measured spots. Its confidence is 0 everywhere: it knows nothing of where a spot lies."""

    name = "gene-mean"
    config_class = GeneMeanConfig

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill every spot of a section with the mean of its measured spots (see :class:`Imputer`)."""
        filled = []
        for section, given in zip(stack.sections, values, strict=True):
            mean = given[informative(section)].mean(axis=0, dtype=np.float64)
            constant = np.broadcast_to(mean.astype(np.float32), given.shape)
            filled.append(Filled(constant, np.zeros(given.shape, dtype=np.float32)))
        return filled
