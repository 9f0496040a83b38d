"""Inputs of ST-DAI from a stack: positions in the common frame, centred expression, components, image features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from stzoo import DataError, Encoder, Ranks, Stack
from stzoo.core.arrays import Doubles, Floats, Indices, Mask
from stzoo.core.data.sampling import informative
from stzoo.core.gp import Components, Places, relative_noise, spacing
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.workflows.align_stack import central_section
from stzoo.core.workflows.features import section_features, typical_distance


@dataclass(frozen=True)
class StackInputs:
    """All spots of a stack, one section after the other.

    Parameters
    ----------
    places
        Of every spot, with image features where there are some.
    central
        Index of the section that is measured in full.
    measured
        bool (n,), spots that were measured.
    seen
        intp (m,), measured spots that have counts.
    noise
        float64 (m,), their relative noise by depth.
    depth
        float64 (m,), their log depth, centred by section.
    y
        float64 (m, g), their log-normalised expression, centred by section.
    means
        float64 (sections, g), these means, spots weighted by the inverse of their noise.
    floor
        float64 (g,), lower bound of predictions: the lowest measured value, or 0.
    components
        Principal components of ``y``.
    pitch
        Distance of neighbouring spots, measured or not, µm.
    spacing
        Distance of neighbouring measured spots, µm, in the section where it is least.
    """

    places: Places
    central: int
    measured: Mask
    seen: Indices
    noise: Doubles
    depth: Doubles
    y: Doubles
    means: Doubles
    floor: Doubles
    components: Components
    pitch: float
    spacing: float

    @classmethod
    def of(
        cls,
        stack: Stack,
        values: Sequence[Floats],
        *,
        encoder: Encoder | None,
        within: bool,
        components: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> StackInputs:
        """Prepare a stack; ``values``, (n, g) a section, are read at measured spots only; ranks share the images."""
        if len(stack) < 2:
            raise DataError(
                "'st-dai' fills sparse sections beside a full one, and the stack has one section",
                todo="give a stack of at least two sections, or use kriging or s2s-st for one",
            )
        um = [stack.um(i) for i in range(len(stack))]
        section = np.repeat(np.arange(len(stack)), [len(points) for points in um])
        known = np.concatenate([informative(one) for one in stack.sections])
        seen = np.flatnonzero(known)
        seen = seen[np.lexsort((np.concatenate(um)[seen, 1], np.concatenate(um)[seen, 0], section[seen]))]
        depth = np.maximum(np.concatenate([one.depth for one in stack.sections])[seen], 1e-9)
        noise = relative_noise(depth)
        given = np.concatenate(list(values))[seen].astype(np.float64)
        means = _section_means(given, section[seen], 1 / noise, len(stack))
        y = given - means[section[seen]]
        y[:, np.abs(y).max(axis=0) < 1e-6] = 0.0  # rounding of a mean is no variation
        log_depth = np.log(depth)[:, None]
        features = None
        if encoder is not None:
            features = section_features(stack.sections, encoder, within=within, ranks=ranks)
            features /= typical_distance(features[seen])
        return cls(
            places=Places(np.concatenate(um), section, features),
            central=central_section(stack),
            measured=np.concatenate([one.measured for one in stack.sections]),
            seen=seen,
            noise=noise,
            depth=(log_depth - _section_means(log_depth, section[seen], 1 / noise, len(stack))[section[seen]])[:, 0],
            y=y,
            means=means,
            floor=np.minimum(given.min(axis=0), 0.0),
            components=Components.of(y.astype(np.float32), components, seed=seed, weights=1 / noise),
            pitch=min(spacing(points) for points in um),
            spacing=min(spacing(points[informative(one)]) for points, one in zip(um, stack.sections, strict=True)),
        )

    def __len__(self) -> int:
        return len(self.places)

    @property
    def section(self) -> Indices:
        """Index of each spot's section, intp (n,)."""
        return self.places.section

    @property
    def adjacent(self) -> list[int]:
        """Indices of the sections that have spots to fill, the central one left out."""
        return [i for i in range(len(self.means)) if i != self.central]

    @property
    def seen_places(self) -> Places:
        """Places of the measured spots, with their noise."""
        return replace(self.places.take(self.seen), noise=self.noise)

    @property
    def extent(self) -> float:
        """Longer side of the whole, µm."""
        return float(np.ptp(self.places.um, axis=0).max())

    def of_section(self, number: int) -> Indices:
        """Return the measured spots of a section, indices into ``seen``."""
        return np.flatnonzero(self.section[self.seen] == number)

    def of_adjacent(self) -> Indices:
        """Return the measured spots of all adjacent sections, indices into ``seen``."""
        return np.flatnonzero(self.section[self.seen] != self.central)


def _section_means(values: Doubles, section: Indices, weights: Doubles, count: int) -> Doubles:
    """Return the weighted mean of each section's rows, float64 (sections, g)."""
    return np.stack([np.average(values[section == i], axis=0, weights=weights[section == i]) for i in range(count)])
