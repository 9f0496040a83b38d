"""How near the spots of two lattices can be expected to lie: the floor of a nearest-spot distance."""

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
"""Positions may be adjusted by hand: at most this share of spots is off the median spacing by more than a quarter."""


def lattice_floor(um: Points, pitch: float | None = None) -> tuple[str, float] | None:
    """Return the kind of lattice that spots stand on, and the mean distance that chance leaves to its nodes.

    An alignment of two sections whose lattices have a random offset can not be told from a perfect one below it
    (specification ``st-dai``, section 2.2).

    Parameters
    ----------
    um
        float64 (n, 2), micrometres.
    pitch
        Distance of neighbouring nodes, where it is known; by default the median distance of neighbouring spots.

    Returns
    -------
    ``square`` or ``hexagonal``, and micrometres; None where the spots stand on neither (single cells).
    """
    if len(um) < 4:
        return None
    nearest = spacing(um)
    usual = float(np.median(nearest))
    if not usual > 0 or np.mean(np.abs(nearest - usual) > _SPREAD * usual) > _ODD:
        return None
    around = cKDTree(um).query_ball_point(um, (1 + _SPREAD) * usual, return_length=True) - 1
    full = int(np.percentile(around, 75))  # those at the border have fewer
    kinds = {4: ("square", SQUARE), 6: ("hexagonal", HEXAGONAL)}
    return (kinds[full][0], kinds[full][1] * (pitch or usual)) if full in kinds else None
