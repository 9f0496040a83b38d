"""Gaussian smoothing over the measured spots of a section, its width chosen by leave-one-out on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from stzoo import ConfigError, FilledPart, PartImputer, Progress, Ranks, Stack
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.metrics import per_gene_pcc
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.baselines.imputers._nearby import Surroundings, fill_around

WIDTHS = (0.35, 0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0, 2.6)
"""Standard deviations tried, in distances between nearest measured spots."""
NEIGHBOURS = 200
"""Measured spots that count: a disc of 8 spacings on a lattice, 3 standard deviations of the widest kernel."""


@dataclass
class SmoothConfig:
    """Options of ``smooth``.

    Parameters
    ----------
    width_um
        Standard deviation of the Gaussian, µm; None chooses it by leave-one-out on the measured spots.
    """

    width_um: float | None = None

    def __post_init__(self) -> None:
        """Refuse a width without a meaning."""
        if self.width_um is not None and not self.width_um > 0:
            raise ConfigError(f"width_um is {self.width_um}, expected more than 0", where="config of 'smooth'")


class Smooth(PartImputer):
    """Gaussian smoothing (Nadaraya-Watson); confidence as :meth:`Surroundings.trust` has it.

    One width serves all genes of a section: the one with the highest correlation between left-out measured
    values and their guess, averaged over genes with the genes' variances as weights. (Chosen by squared error, the
    width is too large for the genes that vary: it is the many noisy ones that ask for a wide kernel.)
    """

    name = "smooth"
    config_class = SmoothConfig
    config: SmoothConfig

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill blocks of spots (see :class:`Imputer`)."""
        for number, (section, given) in enumerate(zip(stack.sections, values, strict=True)):
            seen = Surroundings.of(section, given)
            weights = partial(_gaussian, width=self.config.width_um or choose_width(seen))
            yield from fill_around(number, section, seen, NEIGHBOURS, weights, ranks)


def choose_width(seen: Surroundings) -> float:
    """Return the width (µm) that guesses left-out measured spots best (the spacing itself when nothing varies)."""
    spacing = seen.spacing()
    if len(seen.positions) < 3:
        return spacing
    left_out, distance, index = seen.leave_out(NEIGHBOURS)
    truth = seen.values[left_out]
    variance = truth.var(axis=0)
    scores = []
    for width in WIDTHS:
        guessed = seen.mean(_gaussian(distance, width * spacing), index)
        scores.append(float(np.nan_to_num(per_gene_pcc(truth, guessed)) @ variance))
    return WIDTHS[int(np.argmax(scores))] * spacing if max(scores) > 0 else spacing


def _gaussian(distance: Doubles, width: float) -> Doubles:
    squared = (distance**2 - distance[:, :1] ** 2) / (2 * width**2)  # far from all: the nearest keeps weight 1
    weights: Doubles = np.exp(-squared)
    return weights
