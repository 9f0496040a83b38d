"""Registered measurements of the other sections, carried over to every spot: the simplest method that uses them.

Specification ``st-dai``, section 2.4 (our reading): a Gaussian-weighted mean of the nearest measured spots of the other
sections, in the common frame of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.gp.blocks import spacing
from stzoo.core.interfaces import Filled, Imputer, Progress
from stzoo.core.measured import informative
from stzoo.core.metrics import per_gene_pcc
from stzoo.core.section import Floats, Stack
from stzoo.plugins.baselines.knn import Knn
from stzoo.plugins.baselines.local import CHUNK, Distances, Surroundings

REACH = 1.5
"""Farther from the nearest spot of another section than this many pitches, nothing is carried over."""
SHRINKAGE = 20
"""Measured spots at which half of a gene's offset between sections is believed."""


@dataclass
class TransferConfig:
    """Options of ``transfer``.

    Parameters
    ----------
    neighbours
        Spots of other sections that are averaged.
    offset
        Add each gene's mean difference between the section and what is carried over, taken on the section's own
        measured spots and shrunk towards 0 when these are few.
    own
        Share of the section's own interpolation (``knn``) in the result; 0.5 is the mean of the two.
    """

    neighbours: int = 4
    offset: bool = False
    own: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        if self.neighbours < 1:
            raise ConfigError(f"neighbours is {self.neighbours}, expected at least 1", where="config of 'transfer'")
        if not 0 <= self.own <= 1:
            raise ConfigError(f"own is {self.own}, expected 0 to 1", where="config of 'transfer'")


class Transfer(Imputer):
    """Gaussian-weighted mean of the nearest measured spots of the other sections (width: half the pitch).

    Where the nearest is farther than 1.5 pitches, each gene's mean over the section's own measured spots, with a
    confidence of 0. Elsewhere confidence is the share of a gene's variance that was explained on the section's own
    measured spots, which take no part in what is carried over, times pitch / (pitch + distance to the nearest spot);
    with ``own``, the mean of that and of the confidence of ``knn``, by their shares.
    """

    name = "transfer"
    config_class = TransferConfig
    config: TransferConfig

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill each section from the others (see :class:`Imputer`).

        Raises
        ------
        DataError
            A section with hidden spots is alone.
        """
        own = [Filled(given, np.ones_like(given)) for given in values]
        if self.config.own and len(stack) > 1:
            own = Knn().fill(stack, values)
        filled = []
        for number, given in enumerate(values):
            whole = bool(stack.sections[number].measured.all())
            filled.append(
                Filled(given, np.ones_like(given)) if whole else self._fill(stack, values, number, own[number])
            )
            if progress:
                progress(number + 1, len(stack))
        return filled

    def _fill(self, stack: Stack, values: Sequence[Floats], number: int, own: Filled) -> Filled:
        section, given = stack.sections[number], values[number]
        others = _others(stack, values, number)
        pitch, at, seen = spacing(section.um), stack.um(number), informative(section)
        carried = np.empty(given.shape, dtype=np.float32)
        nearest = np.empty(len(at))
        for start in range(0, len(at), CHUNK):
            part = np.s_[start : start + CHUNK]
            distance, index = others.near(at[part], self.config.neighbours)
            carried[part], nearest[part] = others.mean(_gaussian(distance, pitch / 2), index), distance[:, 0]
        far = nearest > REACH * pitch
        carried[far] = given[seen].mean(axis=0)
        trust = np.zeros(given.shape, dtype=np.float32)
        known = seen & ~far
        if known.sum() > 1:
            explained = np.clip(np.nan_to_num(per_gene_pcc(given[known], carried[known])), 0, 1) ** 2
            trust[~far] = (pitch / (pitch + nearest[~far]))[:, None] * explained
        if self.config.offset and known.any():
            n = int(known.sum())
            carried[~far] += n / (n + SHRINKAGE) * (given[known] - carried[known]).mean(axis=0)
            carried = np.maximum(carried, np.minimum(given[seen].min(axis=0), 0))
        share = self.config.own
        if share:
            carried, trust = (share * a + (1 - share) * b for a, b in ((own.values, carried), (own.confidence, trust)))
        return Filled(carried, trust)


def _others(stack: Stack, values: Sequence[Floats], number: int) -> Surroundings:
    """Return the measured spots of the other sections in the common frame, in an order that does not change."""
    others = [i for i in range(len(stack)) if i != number]
    if not others:
        raise DataError(
            f"section '{stack.sections[number].name}' is alone, and 'transfer' carries over what others measured",
            todo="give a stack of sections, or use 'knn'",
        )
    seen = [informative(stack.sections[i]) for i in others]
    um = np.concatenate([stack.um(i)[known] for i, known in zip(others, seen, strict=True)])
    y = np.concatenate([values[i][known] for i, known in zip(others, seen, strict=True)])
    order = np.lexsort((um[:, 1], um[:, 0]))
    return Surroundings(um[order], y[order])


def _gaussian(distance: Distances, width: float) -> Distances:
    squared = (distance**2 - distance[:, :1] ** 2) / (2 * width**2)  # far from all: the nearest keeps weight 1
    weights: Distances = np.exp(-squared)
    return weights
