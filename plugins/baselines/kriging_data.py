"""What kriging takes from a stack: places, centred expression of the measured spots, principal components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Doubles, Floats, Indices
from stzoo.core.data.sampling import informative
from stzoo.core.data.section import Stack
from stzoo.core.encoder import Encoder
from stzoo.core.gp.kernels import Places
from stzoo.core.gp.noise import relative_noise
from stzoo.core.imputer import Filled, FilledPart
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.workflows.features import section_features, typical_distance
from stzoo.plugins.baselines.local import Surroundings


@dataclass(frozen=True)
class Scene:
    """All spots of a stack, one after the other, in the frame of the first section.

    Parameters
    ----------
    places, measured
        Of every spot of every section.
    hidden
        Indices of the spots to predict.
    seen
        Places of the measured spots that have counts, in an order that does not depend on how they came.
    y
        float32 (n_seen, g), expression of these with section means removed.
    means
        float32 (sections, g), the section means.
    floor
        float32 (g,), predictions are not let below: the lowest measured value, or 0 if that is higher.
    spacing, extent
        Median distance of nearest measured spots of a section, and the longer side of the whole, µm.
    """

    places: Places
    measured: npt.NDArray[np.bool_]
    hidden: Indices
    seen: Places
    y: Floats
    means: Floats
    floor: Floats
    spacing: float
    extent: float

    @classmethod
    def of(
        cls, stack: Stack, values: Sequence[Floats], *, encoder: Encoder | None, depth: bool, ranks: Ranks = ALONE
    ) -> Scene:
        """Gather a stack; with an encoder image features join the places, with ``depth`` the noise of each spot."""
        sizes = [len(section) for section in stack.sections]
        um = np.concatenate([stack.um(i) for i in range(len(stack))])
        number = np.repeat(np.arange(len(stack)), sizes)
        known = np.concatenate([informative(section) for section in stack.sections])
        index = np.flatnonzero(known)
        index = index[np.lexsort((um[index, 1], um[index, 0], number[index]))]
        features = None
        if encoder is not None:
            features = section_features(stack.sections, encoder, ranks=ranks)
            features /= typical_distance(features[index])
        depths = np.concatenate([section.depth for section in stack.sections])[index]
        noise = relative_noise(np.maximum(depths, 1e-9)) if depth else np.ones(len(index))
        places = Places(um, number, features)
        y = np.concatenate(list(values))[index]
        means = np.stack([_mean(y[own], noise[own]) for own in (number[index] == i for i in range(len(stack)))])
        floor = np.minimum(y.min(axis=0), 0.0)
        y = (y - means[number[index]]).astype(np.float32)
        y[:, np.abs(y).max(axis=0) < 1e-6] = 0.0  # rounding of a mean is no variation
        measured = np.concatenate([section.measured for section in stack.sections])
        spacing = min(Surroundings.of(s, v[:, :0]).spacing() for s, v in zip(stack.sections, values, strict=True))
        extent = float(np.ptp(um, axis=0).max())
        seen = replace(places.take(index), noise=noise if depth else None)
        hidden = np.flatnonzero(~measured)
        return cls(places, measured, hidden, seen, y, means.astype(np.float32), floor, spacing, extent)

    def parts(self, spots: Indices, values: Floats, confidence: Floats) -> Iterator[FilledPart]:
        """Yield what was found of some spots, (m, g), section by section."""
        section = self.places.section
        for number in np.unique(section[spots]):
            own = section[spots] == number
            start = int(np.searchsorted(section, number))
            yield FilledPart(int(number), spots[own] - start, Filled(values[own], confidence[own]))


def _mean(y: Floats, noise: Doubles) -> Doubles:
    """Return the mean of each gene, float64 (g,), spots weighted by the inverse of their noise."""
    return np.asarray(np.average(y.astype(np.float64), axis=0, weights=1 / noise))
