"""Confidence that means something: trust, calibrated on measured spots that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.arrays import Doubles, Floats

BINS = 20
"""Steps of the curve: values of trust are pooled by rank before a monotone curve is fitted."""
POOL = 100
"""Values of trust in a step, at least: means of few values would lift the upper end of a monotone curve."""


@dataclass(frozen=True)
class Calibration:
    """A monotone curve from trust to confidence, linear between its points and flat beyond them.

    Confidence is the expected share of a gene's variance that the prediction explains at a spot:
    1 - squared error / variance of the gene, averaged over values of like trust, and cut to [0, 1].

    Parameters
    ----------
    trust, confidence
        float64 (b,), the points, ascending.
    """

    trust: Doubles
    confidence: Doubles

    @classmethod
    def none(cls) -> Calibration:
        """Return the curve that leaves trust as it is."""
        return cls(np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    @classmethod
    def of(cls, trust: Sequence[Doubles], explained: Sequence[Doubles]) -> Calibration:
        """Fit the curve by isotonic regression; it starts at 0, where nothing is known.

        Parameters
        ----------
        trust, explained
            float64 (m, g) each, of held-out spots: trust, and 1 - squared error / variance.
        """
        from sklearn.isotonic import isotonic_regression

        if not sum(part.size for part in trust):
            return cls.none()
        x, y = (np.concatenate([part.ravel() for part in parts]) for parts in (trust, explained))
        order = np.argsort(x, kind="stable")
        pools = np.array_split(order, max(1, min(BINS, len(order) // POOL)))
        points = np.array([[x[pool].mean(), y[pool].mean(), len(pool)] for pool in pools])
        level = isotonic_regression(points[:, 1], sample_weight=points[:, 2], y_min=0.0, y_max=1.0)
        some = points[:, 0] > 0
        return cls(np.append(0.0, points[some, 0]), np.append(0.0, np.asarray(level, dtype=np.float64)[some]))

    def apply(self, trust: Doubles) -> Floats:
        """Return the confidence for values of trust, float32 of the same shape."""
        return np.interp(trust, self.trust, self.confidence).astype(np.float32)
