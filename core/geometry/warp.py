"""Images and polygons moved by a map: what :class:`~stzoo.core.geometry.transform.Transform` does with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Doubles
from stzoo.core.errors import DataError, UnitsError

PointMap = Callable[[Doubles], Doubles]
"""Takes points to points, float64 (n, 2) both, micrometres."""
TOLERANCE_UM = 1.0
"""How far a bent edge of a polygon may lie from the straight pieces that stand for it, micrometres."""
_BAND_PIXELS = 1_000_000
_MOST_HALVINGS = 20


def warp_image(
    pixels: npt.NDArray[Any], back: PointMap, *, mpp: float, shape: tuple[int, int], out_mpp: float | None = None
) -> npt.NDArray[Any]:
    """Move an image, given the map from places of the result to places of the image.

    See :meth:`stzoo.core.geometry.transform.Transform.apply_image`, which this is for.
    """
    out_mpp = mpp if out_mpp is None else out_mpp
    for value in (mpp, out_mpp):
        if not (np.isfinite(value) and value > 0):
            raise UnitsError(f"µm/px is {value!r}, expected a positive number")
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise DataError(f"the image has shape {pixels.shape}, expected (h, w) or (h, w, c)")
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if out_mpp > mpp and pixels.dtype != bool:
        planes, mpp = _shrunk(planes, out_mpp / mpp), out_mpp
    rows = max(1, _BAND_PIXELS // shape[1])
    bands = [
        _sample_rows(planes, back, mpp, out_mpp, range(top, min(top + rows, shape[0])), shape[1], pixels.ndim == 3)
        for top in range(0, shape[0], rows)
    ]
    moved = np.concatenate(bands) if len(bands) > 1 else bands[0]
    return moved[..., 0] if pixels.ndim == 2 else moved


def warp_polygons(
    polygons: Sequence[npt.ArrayLike], forth: PointMap, *, longest: float, mirrored: bool
) -> list[Doubles]:
    """Move polygons; edges that the map bends get vertices in between.

    See :meth:`stzoo.core.geometry.transform.Transform.apply_polygons`, which this is for.

    Parameters
    ----------
    longest
        No moved edge is left longer than this, micrometres (infinity for a map that bends nothing).
    mirrored
        The map turns the plane over, so the order of the vertices is reversed.
    """
    moved = []
    for number, polygon in enumerate(polygons):
        ring = np.array(polygon, dtype=np.float64)
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
            raise DataError(
                f"polygon {number} has shape {ring.shape} or is not finite, expected at least 3 vertices (n, 2)",
                todo="give the outer ring of each polygon in micrometres",
            )
        done = forth(ring if math.isinf(longest) else _subdivide(ring, forth, longest))
        moved.append(done[::-1].copy() if mirrored else done)
    return moved


def _subdivide(ring: Doubles, forth: PointMap, longest: float) -> Doubles:
    """Halve edges until none is long, and the middle of each lies where its straight image has it."""
    for _ in range(_MOST_HALVINGS):
        middle = (ring + np.roll(ring, -1, axis=0)) / 2
        start, between = forth(ring), forth(middle)
        end = np.roll(start, -1, axis=0)
        bend = np.linalg.norm(between - (start + end) / 2, axis=1)
        split = (np.linalg.norm(end - start, axis=1) > longest) | (bend > TOLERANCE_UM)
        if not split.any():
            break
        kept = np.column_stack([np.ones(len(ring), dtype=bool), split])
        ring = np.stack([ring, middle], axis=1)[kept]  # (n, 2 points, 2) -> (n + split, 2)
    return ring


def _shrunk(planes: npt.NDArray[Any], factor: float) -> npt.NDArray[Any]:
    """Return the image with pixels ``factor`` times as large (the last ones may reach beyond the border)."""
    from stzoo.core.slides.resampling import resample

    shape = (math.ceil(planes.shape[0] / factor), math.ceil(planes.shape[1] / factor))
    return resample(planes, (0.0, 0.0, shape[1] * factor, shape[0] * factor), shape)


def _sample_rows(
    planes: npt.NDArray[Any], back: PointMap, mpp: float, out_mpp: float, rows: range, width: int, colour: bool
) -> npt.NDArray[Any]:
    """Return some rows of a moved image, (rows, width, channels)."""
    from scipy.ndimage import map_coordinates

    down, right = np.mgrid[rows.start : rows.stop, :width]
    target = np.column_stack([right.ravel(), down.ravel()]) + 0.5
    source = back(target * out_mpp) / mpp - 0.5
    fill = 255 if colour and planes.dtype == np.uint8 else 0
    order = 0 if planes.dtype == bool else 1
    out = np.empty((len(rows), width, planes.shape[2]), dtype=planes.dtype)
    sample: Any = map_coordinates  # its stubs know no order that is an int
    for k in range(planes.shape[2]):
        # "grid-constant": the outer half of a border pixel is still part of the image, and fades into the fill
        sample(
            planes[..., k],
            source[:, ::-1].T.reshape(2, len(rows), width),
            output=out[..., k],
            order=order,
            mode="grid-constant",
            cval=fill,
        )
    return out
