"""Displacement: a smooth field of offsets, which bends what an affine map leaves straight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Doubles
from stzoo.core.errors import DataError

TOLERANCE_UM = 1e-7
"""How exactly an inverted displacement is solved, micrometres."""
MAX_SLOPE = 0.9
"""Steepest displacement (µm per µm) that is inverted; a field folds somewhere above 1."""
_MOST_STEPS = 300  # 0.9 ** 300 = 2e-14


@dataclass(frozen=True, eq=False)
class Displacement:
    """A smooth field of offsets on a regular grid, bilinear between its nodes and constant beyond its border.

    Parameters
    ----------
    offsets
        float64 (rows, columns, 2), offsets (x, y) in micrometres.
    origin
        Position (x, y) of node [0, 0], micrometres.
    spacing
        Distance between nodes, micrometres.
    inverted
        The field stands for the inverse of the map it describes: :meth:`at` solves for it, point by point, to
        :data:`TOLERANCE_UM`. So an inverse costs no accuracy, needs no grid of its own, and can be inverted back.
    """

    offsets: Doubles
    origin: tuple[float, float]
    spacing: float
    inverted: bool = False

    def __post_init__(self) -> None:
        """Refuse a field that has no meaning, or that folds when its inverse is asked for."""
        offsets = np.array(self.offsets, dtype=np.float64)
        shape, place = offsets.shape, (*self.origin, self.spacing)
        if len(shape) != 3 or shape[2] != 2 or min(shape) < 2 or not (self.spacing > 0 and np.isfinite(place).all()):
            raise DataError(f"displacement of shape {shape}, spacing {self.spacing}: expected (>=2, >=2, 2) and > 0")
        if not np.isfinite(offsets).all():
            raise DataError("the displacement has offsets that are not finite", todo="fill or smooth the field")
        offsets.flags.writeable = False
        object.__setattr__(self, "offsets", offsets)
        if self.inverted and (slope := self._slope()) >= MAX_SLOPE:
            raise DataError(
                f"the displacement changes by {slope:.2f} µm per µm: it folds or nearly does, so it has no inverse",
                todo="smooth the field, or put its affine part into the matrix",
            )

    def at(self, points: npt.ArrayLike) -> Doubles:
        """Return the offset at each point, float64 (n, 2)."""
        points = np.asarray(points, dtype=np.float64)
        if not self.inverted:
            return self._forward(points)
        offset = -self._forward(points)
        # v(y) = -u(y + v(y)) is a contraction, because the slope of u is below MAX_SLOPE everywhere
        for _ in range(_MOST_STEPS):
            better = -self._forward(points + offset)
            done = np.abs(better - offset).max(initial=0.0) < TOLERANCE_UM * (1 - MAX_SLOPE)
            offset = better
            if done:
                break
        return offset

    def _forward(self, points: Doubles) -> Doubles:
        from scipy.ndimage import map_coordinates

        place = (points - np.asarray(self.origin)) / self.spacing
        grid = place[:, ::-1].T  # (2, n), row then column
        return np.stack([map_coordinates(self.offsets[..., k], grid, order=1, mode="nearest") for k in (0, 1)], axis=1)

    def _slope(self) -> float:
        """Return the largest spectral norm of the field's derivative, which bilinear cells take at their corners."""
        down, right = np.diff(self.offsets, axis=0) / self.spacing, np.diff(self.offsets, axis=1) / self.spacing
        corners = [
            np.stack([x, y], axis=-1)  # (rows - 1, columns - 1, 2 components, 2 directions)
            for x in (right[:-1], right[1:])
            for y in (down[:, :-1], down[:, 1:])
        ]
        return float(max(np.linalg.norm(corner, ord=2, axis=(-2, -1)).max() for corner in corners))
