"""How noisy a spot is against others: a function of its depth."""

from __future__ import annotations

import numpy as np
from stzoo.core.arrays import Doubles

DEPTH_POWER = 0.5
"""The variance of a spot's noise is taken to fall with this power of its depth (both kinds of noise do: few counts, and
few cells)."""
LEAST_DEPTH = 1e-4
"""Depths below this share of the median are taken for this share."""


def relative_noise(depth: Doubles, *, least: float = LEAST_DEPTH) -> Doubles:
    """Return the variance of each spot's noise relative to a spot of median depth, float64 (n,).

    Parameters
    ----------
    depth
        float64 (n,), total counts.
    least
        Depths below this share of the median are taken for this share.
    """
    share = np.clip(depth / np.median(depth), least, None)
    return np.asarray(share**-DEPTH_POWER, dtype=np.float64)
