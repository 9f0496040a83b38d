"""The expected nearest-spot distance of two randomly offset lattices: a floor for alignment errors."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree
from stzoo.core.arrays import Points
from stzoo.core.data.tissue import spacing

SQUARE = (math.sqrt(2) + math.log(1 + math.sqrt(2))) / 6
"""Mean distance of a random point to the nearest node of a square lattice of pitch 1 (to the centre of its square)."""
HEXAGONAL = (2 / 3 + math.log(3) / 2) / (2 * math.sqrt(3))
"""The same for a hexagonal lattice of pitch 1: the mean distance to the centre of a hexagon of inradius 1/2."""
_SPREAD, _ODD = 0.25, 0.05
"""Tolerance for adjusted positions: the share of spots whose spacing may differ from the median by over a quarter."""


def lattice_floor(um: Points, pitch: float | None = None) -> tuple[str, float] | None:
    """Return the lattice type of the spots, and the mean distance of a random point to its nearest node.

    If the lattices of two sections have a random offset, alignment errors below this distance cannot be told from a
    perfect alignment (specification ``st-dai``, section 2.2).

    Parameters
    ----------
    um
        float64 (n, 2), micrometres.
    pitch
        Distance of neighbouring nodes, if known; by default the median distance of neighbouring spots.

    Returns
    -------
    ``square`` or ``hexagonal``, and the distance in micrometres; None if the spots form no lattice (single cells).
    """
    if len(um) < 4:
        return None
    nearest = spacing(um)
    usual = float(np.median(nearest))
    if not usual > 0 or np.mean(np.abs(nearest - usual) > _SPREAD * usual) > _ODD:
        return None
    around = cKDTree(um).query_ball_point(um, (1 + _SPREAD) * usual, return_length=True) - 1
    full = int(np.percentile(around, 75))  # spots at the border have fewer
    kinds = {4: ("square", SQUARE), 6: ("hexagonal", HEXAGONAL)}
    return (kinds[full][0], kinds[full][1] * (pitch or usual)) if full in kinds else None
