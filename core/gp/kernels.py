"""Kernels of the Gaussian process: over position, over features, and a correlation of sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist
from stzoo.core.arrays import Doubles, Indices, Points

CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97)
"""Correlations between sections that are tried when there are several."""
FEATURE_WEIGHTS = (0.25, 0.5, 0.75)
"""Shares of the variance given to image features that are tried (besides 0) when there are features."""
FEATURE_LENGTHS = (0.5, 1.0, 2.0)
"""Length scales over image features that are tried, in median distances between spots."""


@dataclass(frozen=True)
class Places:
    """Where spots lie.

    Parameters
    ----------
    um
        float64 (n, 2), micrometres in the common frame of the stack.
    section
        intp (n,), index of each spot's section.
    features
        float64 (n, d), image features scaled so that 1 is a typical distance between two spots, or None.
    noise
        float64 (n,), variance of each place's noise relative to the others' (around 1), or None for the same
        everywhere.
    """

    um: Points
    section: Indices
    features: Doubles | None = None
    noise: Doubles | None = None

    def __len__(self) -> int:
        return len(self.um)

    def take(self, index: Indices) -> Places:
        """Return some of the places."""
        features, noise = (None if x is None else x[index] for x in (self.features, self.noise))
        return Places(self.um[index], self.section[index], features, noise)


@dataclass(frozen=True)
class Kernel:
    """A correlation between places, 1 for a place and itself.

    ``(1 - weight) * shape(distance / length) * c + weight * matern32(feature distance / feature_length)``, where
    c is 1 within a section and ``correlation`` between sections. The feature part joins sections fully: cells that
    look alike are alike in every section.

    Parameters
    ----------
    length
        Length scale over position, µm.
    correlation
        Of two sections at one position, in [0, 1].
    weight
        Share of the variance that goes with image features, in [0, 1].
    feature_length
        Length scale over image features, in typical distances.
    shape
        Of the correlation over position: ``matern32``, or ``exponential`` (rougher: Matérn-1/2).
    """

    length: float
    correlation: float = 1.0
    weight: float = 0.0
    feature_length: float = 1.0
    shape: Shape = "matern32"

    def between(self, a: Places, b: Places) -> Doubles:
        """Return the correlation of each place of a with each of b, float64 (len(a), len(b))."""
        k = SHAPES[self.shape](cdist(a.um, b.um) / self.length)
        if self.correlation < 1:
            k *= np.where(a.section[:, None] == b.section, 1.0, self.correlation)
        if self.weight and a.features is not None and b.features is not None:
            k *= 1 - self.weight
            k += self.weight * matern32(cdist(a.features, b.features) / self.feature_length)
        return k


def matern32(distance: Doubles) -> Doubles:
    """Return the Matérn correlation of smoothness 3/2 at distances in length scales (Rasmussen & Williams 4.17)."""
    scaled = np.sqrt(3.0) * distance
    k: Doubles = (1.0 + scaled) * np.exp(-scaled)
    return k


def exponential(distance: Doubles) -> Doubles:
    """Return the Matérn correlation of smoothness 1/2 at distances in length scales (ibid.)."""
    k: Doubles = np.exp(-distance)
    return k


Shape = Literal["matern32", "exponential"]
SHAPES: Mapping[Shape, Callable[[Doubles], Doubles]] = {"matern32": matern32, "exponential": exponential}


def length_scales(spacing: float, extent: float, count: int) -> tuple[float, ...]:
    """Return length scales to try, µm: evenly in the logarithm, from half the spacing of spots to half the extent."""
    low = 0.5 * spacing
    high = max(min(12.0 * spacing, 0.5 * extent), 2.0 * low)
    return tuple(float(length) for length in np.geomspace(low, high, count))


def with_features(kernel: Kernel) -> Iterator[Kernel]:
    """Yield a kernel without image features, and with every weight and length scale that is tried."""
    yield kernel
    for weight in FEATURE_WEIGHTS:
        for length in FEATURE_LENGTHS:
            yield replace(kernel, weight=weight, feature_length=length)
