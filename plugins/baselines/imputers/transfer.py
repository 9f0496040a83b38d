"""Registered measurements of the other sections, carried over to every spot: the simplest method that uses them.

Specification ``st-dai``, section 2.4 (our reading): a Gaussian-weighted mean of the nearest measured spots of the other
sections, in the common frame of the stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from stzoo import BlockShare, ConfigError, DataError, Filled, FilledPart, PartImputer, Progress, Ranks, Section, Stack
from stzoo.core.arrays import Doubles, Floats, Points
from stzoo.core.data.sampling import informative
from stzoo.core.gp import spacing
from stzoo.core.metrics import per_gene_pcc
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.baselines.imputers._nearby import Surroundings
from stzoo.plugins.baselines.imputers.knn import Knn

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


class Transfer(PartImputer):
    """Gaussian-weighted mean of the nearest measured spots of the other sections (width: half the pitch).

    Where the nearest is farther than 1.5 pitches, each gene's mean over the section's own measured spots, with a
    confidence of 0. Elsewhere confidence is the share of a gene's variance that was explained on the section's own
    measured spots, which take no part in what is carried over, times pitch / (pitch + distance to the nearest spot);
    with ``own``, the mean of that and of the confidence of ``knn``, by their shares.
    """

    name = "transfer"
    config_class = TransferConfig
    config: TransferConfig

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill blocks of spots (see :class:`Imputer`).

        Raises
        ------
        DataError
            A section with hidden spots is alone.
        """
        for number, (section, given) in enumerate(zip(stack.sections, values, strict=True)):
            if not section.measured.all():
                carried, um = TransferredMeans.of(stack, values, number, self.config), stack.um(number)
                found = (
                    FilledPart(number, rows, carried.predict(um[rows]))
                    for rows in BlockShare(len(section), ranks).blocks
                )
                yield from self._mix_own(found, section, given, ranks) if self.config.own else found
            if progress:
                progress(number + 1, len(stack))

    def _mix_own(
        self, carried: Iterator[FilledPart], section: Section, given: Floats, ranks: Ranks
    ) -> Iterator[FilledPart]:
        """Mix what is carried over with the section's own interpolation, block by block."""
        share = self.config.own
        for part, own in zip(carried, Knn().fill_parts(Stack((section,)), [given], ranks), strict=True):
            pairs = ((getattr(own.filled, what), getattr(part.filled, what)) for what in ("values", "confidence"))
            yield replace(part, filled=Filled(*(share * a + (1 - share) * b for a, b in pairs)))


@dataclass(frozen=True)
class TransferredMeans:
    """What other sections measured, carried over to places of one section.

    Parameters
    ----------
    others
        The measured spots of the other sections, in the common frame.
    neighbours, pitch
        Spots that are averaged, and the distance of the section's own spots, µm.
    mean
        float32 (g,), of the section's own measured spots: what stands where no other spot is near.
    explained
        float32 (g,), share of the variance at the section's own measured spots.
    offset
        float32 (g,), added to what is carried over; None where that is not asked for.
    floor
        float32 (g,), the lowest measured value, or 0 if that is higher: no result of an offset is below.
    """

    others: Surroundings
    neighbours: int
    pitch: float
    mean: Floats
    explained: Floats
    offset: Floats | None
    floor: Floats

    @classmethod
    def of(cls, stack: Stack, values: Sequence[Floats], number: int, config: TransferConfig) -> TransferredMeans:
        """Compare what is carried over with the section's own measured spots."""
        section, given = stack.sections[number], values[number]
        seen = informative(section)
        mean, floor = given[seen].mean(axis=0), np.minimum(given[seen].min(axis=0), 0)
        explained = np.zeros(given.shape[1], dtype=np.float32)
        others = _gather_others(stack, values, number)
        plain = cls(others, config.neighbours, spacing(section.um), mean, explained, None, floor)
        carried, nearest = plain._means(stack.um(number)[seen])
        known = nearest <= REACH * plain.pitch
        truth, carried = given[seen][known], carried[known]
        if known.sum() > 1:
            explained = (np.clip(np.nan_to_num(per_gene_pcc(truth, carried)), 0, 1) ** 2).astype(np.float32)
        if not (config.offset and known.any()):
            return replace(plain, explained=explained)
        n = int(known.sum())
        offset = n / (n + SHRINKAGE) * (truth - carried).mean(axis=0)
        return replace(plain, explained=explained, offset=np.asarray(offset, dtype=np.float32))

    def predict(self, um: Points) -> Filled:
        """Return values and confidence at some places of the section, (m, 2) in the common frame."""
        carried, nearest = self._means(um)
        far = nearest > REACH * self.pitch
        carried[far] = self.mean
        trust = ((self.pitch / (self.pitch + nearest))[:, None] * self.explained).astype(np.float32)
        trust[far] = 0.0
        if self.offset is not None:
            carried[~far] += self.offset
            carried = np.maximum(carried, self.floor)
        return Filled(carried, trust)

    def _means(self, um: Points) -> tuple[Floats, Doubles]:
        """Return Gaussian means of the nearest spots, float32 (m, g), and the distance to the nearest, (m,)."""
        distance, index = self.others.find_near(um, self.neighbours)
        return self.others.mean(_gaussian(distance, self.pitch / 2), index), distance[:, 0]


def _gather_others(stack: Stack, values: Sequence[Floats], number: int) -> Surroundings:
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


def _gaussian(distance: Doubles, width: float) -> Doubles:
    squared = (distance**2 - distance[:, :1] ** 2) / (2 * width**2)  # far from all: the nearest keeps weight 1
    weights: Doubles = np.exp(-squared)
    return weights
