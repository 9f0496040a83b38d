"""Transform: the one result of every aligner. Micrometres in, micrometres out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.output import writing

Array = npt.NDArray[np.float64]
FORMAT_VERSION = 1
TOLERANCE_UM = 1e-7
"""How exactly an inverted displacement is solved, micrometres."""
MAX_SLOPE = 0.9
"""Steepest displacement (µm per µm) that is inverted; a field folds somewhere above 1."""
_MOST_STEPS = 300  # 0.9 ** 300 = 2e-14
_BAND_PIXELS = 1_000_000


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

    offsets: Array
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

    def at(self, points: npt.ArrayLike) -> Array:
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

    def _forward(self, points: Array) -> Array:
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


@dataclass(frozen=True, eq=False)
class Transform:
    """A map of the plane: first an affine part, then optional displacements.

    Parameters
    ----------
    matrix
        float64 (2, 3): ``y = matrix[:, :2] @ x + matrix[:, 2]``, micrometres.
    displacement
        Offsets that are added at the affine position, or None.
    rest
        A transform that is applied after this one (what composition makes when displacements are involved).
    """

    matrix: Array
    displacement: Displacement | None = None
    rest: Transform | None = None

    def __post_init__(self) -> None:
        """Refuse a matrix that is not finite or flattens the plane."""
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
            raise DataError(f"a transform needs a finite (2, 3) matrix, got {matrix.tolist()}")
        if abs(np.linalg.det(matrix[:, :2])) < 1e-9:
            raise DataError(f"the matrix {matrix[:, :2].tolist()} flattens the plane and has no inverse")
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls) -> Transform:
        """Return the transform that leaves every point where it is."""
        return cls(np.eye(2, 3))

    @classmethod
    def rigid(
        cls,
        angle_deg: float,
        shift: tuple[float, float] = (0.0, 0.0),
        *,
        flip: bool = False,
        centre: tuple[float, float] = (0.0, 0.0),
    ) -> Transform:
        """Return a mirror about the y axis (if ``flip``), a rotation about ``centre`` and a shift.

        Parameters
        ----------
        angle_deg
            From the x axis towards the y axis, degrees.
        shift, centre
            Micrometres.
        """
        a = np.deg2rad(angle_deg)
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([-1.0 if flip else 1.0, 1.0])
        at = np.asarray(centre, dtype=np.float64)
        return cls(np.column_stack([turn, at - turn @ at + np.asarray(shift)]))

    def apply(self, points: npt.ArrayLike) -> Array:
        """Move points, (n, 2) micrometres; returns float64 (n, 2)."""
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise DataError(f"points have shape {points.shape}, expected (n, 2)")
        moved = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        if self.displacement is not None:
            moved = moved + self.displacement.at(moved)
        return moved if self.rest is None else self.rest.apply(moved)

    def then(self, after: Transform) -> Transform:
        """Return the transform that applies this one first and ``after`` second."""
        if self.rest is not None:
            return replace(self, rest=self.rest.then(after))
        if self.displacement is not None:
            return replace(self, rest=after)
        first, second = np.vstack([self.matrix, [0, 0, 1]]), np.vstack([after.matrix, [0, 0, 1]])
        return replace(after, matrix=(second @ first)[:2])

    def inverse(self) -> Transform:
        """Return the inverse: exact for the affine part, to :data:`TOLERANCE_UM` where there are displacements.

        Raises
        ------
        DataError
            A displacement folds the plane, so that it has no inverse.
        """
        turn = np.linalg.inv(self.matrix[:, :2])
        own = Transform(np.column_stack([turn, -turn @ self.matrix[:, 2]]))
        if self.displacement is not None:
            field = replace(self.displacement, inverted=not self.displacement.inverted)
            own = Transform(np.eye(2, 3), field).then(own)
        return own if self.rest is None else self.rest.inverse().then(own)

    def apply_image(
        self, pixels: npt.NDArray[Any], *, mpp: float, shape: tuple[int, int], out_mpp: float | None = None
    ) -> npt.NDArray[Any]:
        """Move an image: pixel (i, j) of the result shows what :meth:`apply` brings to that place.

        Parameters
        ----------
        pixels
            (h, w) or (h, w, c); bool, uint8, uint16 or float, at ``mpp`` micrometres a pixel. The corner of the
            image is the origin, so the centre of pixel (i, j) lies at ``((j + 0.5) * mpp, (i + 0.5) * mpp)``.
        shape, out_mpp
            Size of the result in pixels, and its µm/px (by default ``mpp``).

        Returns
        -------
        Same dtype and channels, bilinear (nearest for masks; area-averaged first when ``out_mpp`` is coarser);
        places from outside the image are 0 for masks and single planes, 255 for uint8 (h, w, c).

        Raises
        ------
        UnitsError
            µm/px that are not positive numbers.
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
        back = self.inverse()
        rows = max(1, _BAND_PIXELS // shape[1])
        bands = [
            _sampled(planes, back, mpp, out_mpp, range(top, min(top + rows, shape[0])), shape[1], pixels.ndim == 3)
            for top in range(0, shape[0], rows)
        ]
        moved = np.concatenate(bands) if len(bands) > 1 else bands[0]
        return moved[..., 0] if pixels.ndim == 2 else moved

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the transform as a zarr v3 group (whole or not at all).

        Raises
        ------
        OutputError
            The path exists (and ``overwrite`` is not given), or can not be written.
        """
        import zarr

        with writing(Path(path), overwrite=overwrite) as scratch:
            root = zarr.open_group(scratch, mode="w", zarr_format=3)
            parts = list(self._parts())
            root.attrs.update({"stzoo": "transform", "format_version": FORMAT_VERSION, "parts": len(parts)})
            for i, part in enumerate(parts):
                group = root.create_group(str(i))
                group.create_array("matrix", data=np.array(part.matrix))
                if part.displacement is not None:
                    field = part.displacement
                    group.create_array("offsets", data=np.asarray(field.offsets, dtype=np.float64))
                    place: dict[str, Any] = {
                        "origin": list(field.origin),
                        "spacing": field.spacing,
                        "inverted": field.inverted,
                    }
                    group.attrs.update(place)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Transform:
        """Read a transform that :meth:`save` wrote, bit for bit.

        Raises
        ------
        DataError
            Missing, damaged, or not a transform.
        """
        import zarr

        path = Path(path)
        if not path.is_dir():
            raise DataError(f"no transform at {path}", todo="check the path")
        try:
            root = zarr.open_group(path, mode="r")
            attributes = dict(root.attrs)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"not a zarr group: {error}", where=path) from error
        if attributes.get("stzoo") != "transform" or attributes.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"not a transform of format {FORMAT_VERSION}", where=path, todo="write it with Transform.save"
            )
        result: Transform | None = None
        try:
            for i in reversed(range(int(str(attributes["parts"])))):
                group: Any = root[str(i)]
                field = None
                if "offsets" in group:
                    at: Any = dict(group.attrs)
                    field = Displacement(group["offsets"][:], tuple(at["origin"]), at["spacing"], at["inverted"])
                result = cls(group["matrix"][:], field, result)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise DataError(f"the transform is damaged: {error}", where=path, todo="write it again") from error
        return result or cls.identity()

    def _parts(self) -> list[Transform]:
        own = replace(self, rest=None)
        return [own] if self.rest is None else [own, *self.rest._parts()]


def _shrunk(planes: npt.NDArray[Any], factor: float) -> npt.NDArray[Any]:
    """Return the image with pixels ``factor`` times as large (the last ones may reach beyond the border)."""
    from stzoo.core.resampling import resample

    shape = (math.ceil(planes.shape[0] / factor), math.ceil(planes.shape[1] / factor))
    return resample(planes, (0.0, 0.0, shape[1] * factor, shape[0] * factor), shape)


def _sampled(
    planes: npt.NDArray[Any], back: Transform, mpp: float, out_mpp: float, rows: range, width: int, colour: bool
) -> npt.NDArray[Any]:
    """Return some rows of a moved image, (rows, width, channels)."""
    from scipy.ndimage import map_coordinates

    down, right = np.mgrid[rows.start : rows.stop, :width]
    target = np.column_stack([right.ravel(), down.ravel()]) + 0.5
    source = back.apply(target * out_mpp) / mpp - 0.5
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
