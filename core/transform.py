"""Transform: the one result of every aligner. Micrometres in, micrometres out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.errors import DataError
from stzoo.core.output import writing

Array = npt.NDArray[np.float64]
FORMAT_VERSION = 1


@dataclass(frozen=True)
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
    """

    offsets: Array
    origin: tuple[float, float]
    spacing: float

    def __post_init__(self) -> None:
        """Refuse a field that has no meaning."""
        shape = np.shape(self.offsets)
        if len(shape) != 3 or shape[2] != 2 or min(shape) < 2 or not self.spacing > 0:
            raise DataError(f"displacement of shape {shape}, spacing {self.spacing}: expected (>=2, >=2, 2) and > 0")

    def at(self, points: Array) -> Array:
        """Return the offset at each point, float64 (n, 2)."""
        from scipy.ndimage import map_coordinates

        place = (np.asarray(points) - np.asarray(self.origin)) / self.spacing
        grid = place[:, ::-1].T  # (2, n), row then column
        return np.stack([map_coordinates(self.offsets[..., k], grid, order=1, mode="nearest") for k in (0, 1)], axis=1)


@dataclass(frozen=True)
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
        """Move points, float64 (n, 2) micrometres."""
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

    def inverse(self, *, extent: Array | None = None, spacing: float = 50.0) -> Transform:
        """Return the inverse.

        Parameters
        ----------
        extent
            float (2, 2), corners (min, max) of the target region on which displacements are inverted;
            by default the grid of the displacement.
        spacing
            Node distance of an inverted displacement, micrometres.
        """
        after = None if self.rest is None else self.rest.inverse(extent=extent, spacing=spacing)
        turn = np.linalg.inv(self.matrix[:, :2])
        affine = Transform(np.column_stack([turn, -turn @ self.matrix[:, 2]]))
        own = affine
        if self.displacement is not None:
            own = Transform(np.eye(2, 3), _inverted(self.displacement, extent, spacing)).then(affine)
        return own if after is None else after.then(own)

    def apply_image(
        self, pixels: npt.NDArray[Any], *, mpp: float, shape: tuple[int, int], out_mpp: float | None = None
    ) -> npt.NDArray[Any]:
        """Move an image: pixel (i, j) of the result shows what :meth:`apply` brings to that place.

        Parameters
        ----------
        pixels
            (h, w) or (h, w, c), at ``mpp`` micrometres a pixel; its corner is the origin.
        shape, out_mpp
            Size of the result in pixels, and its µm/px (by default ``mpp``).

        Returns
        -------
        Same dtype and channels; places from outside the image are 0 for masks and floats, 255 for RGB.
        """
        from scipy.ndimage import map_coordinates

        out_mpp = out_mpp or mpp
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        target = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64) + 0.5
        corners = np.array([[0, 0], [shape[1] * out_mpp, shape[0] * out_mpp]], dtype=np.float64)
        source = self.inverse(extent=corners).apply(target * out_mpp) / mpp - 0.5
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        fill = 255 if pixels.ndim == 3 and pixels.dtype == np.uint8 else 0
        order = 0 if pixels.dtype == bool else 1
        grid = np.ascontiguousarray(source[:, ::-1].T)
        moved: list[npt.NDArray[Any]] = []
        for plane in np.moveaxis(planes, -1, 0):
            target_plane = np.empty(len(source), dtype=pixels.dtype)
            map_coordinates(plane, grid, output=target_plane, order=order, cval=fill)
            moved.append(target_plane.reshape(shape))
        return moved[0] if pixels.ndim == 2 else np.stack(moved, axis=-1)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the transform as a zarr v3 group."""
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
                    group.attrs.update({"origin": list(field.origin), "spacing": field.spacing})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Transform:
        """Read a transform that :meth:`save` wrote."""
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
        for i in reversed(range(int(attributes["parts"]))):  # type: ignore[arg-type]
            group: Any = root[str(i)]
            field = None
            if "offsets" in group:
                field = Displacement(group["offsets"][:], tuple(group.attrs["origin"]), group.attrs["spacing"])
            result = cls(group["matrix"][:], field, result)
        return result or cls.identity()

    def _parts(self) -> list[Transform]:
        own = replace(self, rest=None)
        return [own] if self.rest is None else [own, *self.rest._parts()]


def _inverted(field: Displacement, extent: Array | None, spacing: float) -> Displacement:
    """Return the offsets v with ``v(y) = -u(y + v(y))``, by fixed-point steps at the nodes of a grid."""
    if extent is None:
        size = np.array(field.offsets.shape[1::-1]) - 1
        low = np.asarray(field.origin)
        extent = np.stack([low, low + size * field.spacing])
        spacing = min(spacing, field.spacing)
    low, high = extent
    nx, ny = (max(2, int(np.ceil(d / spacing)) + 1) for d in high - low)
    x, y = np.meshgrid(low[0] + np.arange(nx) * spacing, low[1] + np.arange(ny) * spacing)
    nodes = np.column_stack([x.ravel(), y.ravel()])
    offset = np.zeros_like(nodes)
    for _ in range(50):
        offset = -field.at(nodes + offset)
    return Displacement(offset.reshape(ny, nx, 2), (float(low[0]), float(low[1])), spacing)
