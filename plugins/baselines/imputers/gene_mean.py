"""The smallest imputer: every hidden spot gets each gene's mean over the measured spots of its section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from stzoo import BlockShare, Filled, FilledPart, PartImputer, Progress, Ranks, Stack
from stzoo.core.arrays import Floats
from stzoo.core.data.sampling import informative
from stzoo.core.runtime.ranks import ALONE


@dataclass
class GeneMeanConfig:
    """Nothing to choose."""


class GeneMean(PartImputer):
    """The mean over measured spots. Its confidence is 0 everywhere: it knows nothing of where a spot lies."""

    name = "gene-mean"
    config_class = GeneMeanConfig

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill blocks of spots (see :class:`Imputer`)."""
        for number, (section, given) in enumerate(zip(stack.sections, values, strict=True)):
            mean = given[informative(section)].mean(axis=0, dtype=np.float64).astype(np.float32)
            for rows in BlockShare(len(given), ranks).blocks:
                shape = given[rows].shape
                yield FilledPart(number, rows, Filled(np.broadcast_to(mean, shape), np.zeros(shape, np.float32)))
