"""Gaussian smoothing over the measured spots of a section, its width chosen by leave-one-out on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.errors import ConfigError
from stzoo.core.interfaces import Filled, Imputer, Progress
from stzoo.core.metrics import per_gene_pcc
from stzoo.core.section import Floats, Section, Stack
from stzoo.plugins.baselines.local import CHUNK, Distances, Surroundings

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


class Smooth(Imputer):
    """Gaussian smoothing (Nadaraya-Watson); confidence as :meth:`Surroundings.trust` has it.

    One width serves all genes of a section: the one with the highest correlation between left-out measured
    values and their guess, averaged over genes with the genes' variances as weights. (Chosen by squared error, the
    width is too large for the genes that vary: it is the many noisy ones that ask for a wide kernel.)
    """

    name = "smooth"
    config_class = SmoothConfig
    config: SmoothConfig

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill each section from its own measured spots (see :class:`Imputer`)."""
        return [self._fill(section, given) for section, given in zip(stack.sections, values, strict=True)]

    def _fill(self, section: Section, values: Floats) -> Filled:
        seen, um = Surroundings.of(section, values), section.um
        width = self.config.width_um or choose_width(seen)
        out = np.empty(values.shape, dtype=np.float32)
        for start in range(0, len(um), CHUNK):
            distance, index = seen.near(um[start : start + CHUNK], NEIGHBOURS)
            out[start : start + CHUNK] = seen.mean(_gaussian(distance, width), index)
        if len(seen.positions) < 2:
            return Filled(out, np.zeros(values.shape, dtype=np.float32))
        left_out, distance, index = seen.held_out(NEIGHBOURS)
        return Filled(out, seen.trust(um, seen.mean(_gaussian(distance, width), index), left_out))


def choose_width(seen: Surroundings) -> float:
    """Return the width (µm) that guesses left-out measured spots best (the spacing itself when nothing varies)."""
    spacing = seen.spacing()
    if len(seen.positions) < 3:
        return spacing
    left_out, distance, index = seen.held_out(NEIGHBOURS)
    truth = seen.values[left_out]
    variance = truth.var(axis=0)
    scores = []
    for width in WIDTHS:
        guessed = seen.mean(_gaussian(distance, width * spacing), index)
        scores.append(float(np.nan_to_num(per_gene_pcc(truth, guessed)) @ variance))
    return WIDTHS[int(np.argmax(scores))] * spacing if max(scores) > 0 else spacing


def _gaussian(distance: Distances, width: float) -> Distances:
    squared = (distance**2 - distance[:, :1] ** 2) / (2 * width**2)  # far from all: the nearest keeps weight 1
    weights: Distances = np.exp(-squared)
    return weights
