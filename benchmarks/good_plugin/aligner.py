"""Centres and principal axes of the measured spots, weighted by their counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from stzoo.core.aligner import Aligner
from stzoo.core.data.sampling_rules import informative
from stzoo.core.errors import DataError
from stzoo.core.geometry.transform import Transform


@dataclass
class GoodConfig:
    """Options.

    Parameters
    ----------
    fewest
        Spots that a section needs.
    """

    fewest: int = 10


class Good(Aligner):
    """Lays the axes of one section upon those of the other."""

    name = "good-aligner"
    config_class = GoodConfig

    def align(self, moving, fixed, *, progress=None):
        """Return the transform from micrometres of ``moving`` to those of ``fixed``."""
        (here, axes), (there, others) = self._frame(moving), self._frame(fixed)
        if progress:
            progress(1, 1)
        turn = others @ axes.T
        return Transform(np.column_stack([turn, there - turn @ here]))

    def _frame(self, section):
        seen = informative(section)
        if seen.sum() < self.config.fewest:
            raise DataError(f"{int(seen.sum())} spots are too few", where=section.name, todo="give a larger section")
        um, weight = section.um[seen], section.depth[seen]
        centre = np.average(um, axis=0, weights=weight)
        apart = um - centre
        axes = np.linalg.eigh(np.cov(apart.T, aweights=weight))[1]
        skew = np.average((apart @ axes) ** 3, axis=0, weights=weight)
        axes = axes * np.where(skew < 0, -1, 1)
        return centre, axes
