"""Transform: the one result of every aligner. Micrometres in, micrometres out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Doubles
from stzoo.core.errors import DataError
from stzoo.core.geometry.displacement import Displacement
from stzoo.core.geometry.matches import Matches
from stzoo.core.geometry.warp import warp_image, warp_polygons
from stzoo.core.runtime.outputs import writing

FORMAT_VERSION = 1
_MATCHES = "matches"


@dataclass(frozen=True, eq=False)
class Transform:
    """A map of the plane: first an affine part, then optional displacements; perhaps with matches of spots.

    Parameters
    ----------
    matrix
        float64 (2, 3): ``y = matrix[:, :2] @ x + matrix[:, 2]``, micrometres.
    displacement
        Offsets that are added at the affine position, or None.
    rest
        A transform that is applied after this one (what composition makes when displacements are involved).
    matches
        Which fixed spots stand for which moving spots, where the aligner says so. They belong to the whole map, so
        those of ``rest`` are dropped, and to the two sections it was found for: rows and columns are their spots.
    """

    matrix: Doubles
    displacement: Displacement | None = None
    rest: Transform | None = None
    matches: Matches | None = None

    def __post_init__(self) -> None:
        """Refuse a matrix that is not finite or flattens the plane."""
        if self.rest is not None and self.rest.matches is not None:
            object.__setattr__(self, "rest", replace(self.rest, matches=None))
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

    def apply(self, points: npt.ArrayLike) -> Doubles:
        """Move points, (n, 2) micrometres; returns float64 (n, 2)."""
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise DataError(f"points have shape {points.shape}, expected (n, 2)")
        moved = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        if self.displacement is not None:
            moved = moved + self.displacement.at(moved)
        return moved if self.rest is None else self.rest.apply(moved)

    def then(self, after: Transform) -> Transform:
        """Return the transform that applies this one first and ``after`` second.

        It has matches (see :meth:`stzoo.core.geometry.matches.Matches.then`) where both have them.
        """
        ours, theirs = self.matches, after.matches
        matches = None if ours is None or theirs is None else ours.then(theirs)
        return replace(self._compose(after), matches=matches)

    def _compose(self, after: Transform) -> Transform:
        if self.rest is not None:
            return replace(self, rest=self.rest._compose(after))
        if self.displacement is not None:
            return replace(self, rest=after)
        first, second = np.vstack([self.matrix, [0, 0, 1]]), np.vstack([after.matrix, [0, 0, 1]])
        return replace(after, matrix=(second @ first)[:2])

    def inverse(self) -> Transform:
        """Return the inverse: exact for the affine part, to a tenth of a nanometre where there are displacements.

        Matches change sides: their rows become the spots of what was the fixed section.

        Raises
        ------
        DataError
            A displacement folds the plane, so that it has no inverse.
        """
        matches = None if self.matches is None else self.matches.transpose()
        return replace(self._invert(), matches=matches)

    def _invert(self) -> Transform:
        turn = np.linalg.inv(self.matrix[:, :2])
        own = Transform(np.column_stack([turn, -turn @ self.matrix[:, 2]]))
        if self.displacement is not None:
            field = replace(self.displacement, inverted=not self.displacement.inverted)
            own = Transform(np.eye(2, 3), field)._compose(own)
        return own if self.rest is None else self.rest._invert()._compose(own)

    @property
    def mirrors(self) -> bool:
        """The affine parts turn the plane over."""
        return bool(np.prod([np.sign(np.linalg.det(part.matrix[:, :2])) for part in self.parts()]) < 0)

    @property
    def finest_um(self) -> float:
        """The smallest spacing of its displacements, micrometres; infinity where there are none."""
        fields = [part.displacement for part in self.parts() if part.displacement is not None]
        return min((field.spacing for field in fields), default=math.inf)

    def apply_image(
        self, pixels: npt.NDArray[Any], *, mpp: float, shape: tuple[int, int], out_mpp: float | None = None
    ) -> npt.NDArray[Any]:
        """Move an image or a mask: pixel (i, j) of the result shows what :meth:`apply` brings to that place.

        Parameters
        ----------
        pixels
            (h, w) or (h, w, c); bool (a mask), uint8, uint16 or float, at ``mpp`` micrometres a pixel. The corner of
            the image is the origin, so the centre of pixel (i, j) lies at ``((j + 0.5) * mpp, (i + 0.5) * mpp)``.
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
        DataError
            The image has another shape, or a displacement folds.
        """
        return warp_image(pixels, self.inverse().apply, mpp=mpp, shape=shape, out_mpp=out_mpp)

    def apply_polygons(self, polygons: Sequence[npt.ArrayLike]) -> list[Doubles]:
        """Move polygons (cell outlines, regions), each a ring of vertices in micrometres.

        Parameters
        ----------
        polygons
            Each (n, 2), n >= 3; the last vertex may repeat the first.

        Returns
        -------
        float64 (m, 2) each. Without displacements m = n; with them, edges that bend get vertices, so that the
        straight pieces stay within a micrometre of the curve (:data:`stzoo.core.geometry.warp.TOLERANCE_UM`). A map
        that mirrors has the order of the vertices reversed, so a ring that ran counter-clockwise still does.

        Raises
        ------
        DataError
            A polygon of another shape, or not finite; its number is given.
        """
        return warp_polygons(polygons, self.apply, longest=self.finest_um, mirrored=self.mirrors)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the transform, matches included, as a zarr v3 group (whole or not at all).

        Raises
        ------
        OutputError
            The path exists (and ``overwrite`` is not given), or can not be written.
        """
        return _write(self, Path(path), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Transform:
        """Read a transform that :meth:`save` wrote, bit for bit.

        Raises
        ------
        DataError
            Missing, damaged, or not a transform.
        """
        return _read(Path(path))

    def parts(self) -> list[Transform]:
        """Return the pieces that are applied one after the other: each an affine part, perhaps a displacement."""
        own = replace(self, rest=None, matches=None)
        return [own] if self.rest is None else [own, *self.rest.parts()]


def _write(transform: Transform, path: Path, *, overwrite: bool) -> Path:
    """Write a zarr v3 group with one sub-group a part, and the matches where there are any."""
    import zarr

    with writing(path, overwrite=overwrite) as scratch:
        root = zarr.open_group(scratch, mode="w", zarr_format=3)
        parts = list(transform.parts())
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
        if transform.matches is not None:
            _write_matches(root.create_group(_MATCHES), transform.matches)
    return path


def _read(path: Path) -> Transform:
    import zarr

    if not path.is_dir():
        raise DataError(f"no transform at {path}", todo="check the path")
    try:
        root: Any = zarr.open_group(path, mode="r")
        attributes = dict(root.attrs)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"not a zarr group: {error}", where=path) from error
    if attributes.get("stzoo") != "transform" or attributes.get("format_version") != FORMAT_VERSION:
        raise DataError(f"not a transform of format {FORMAT_VERSION}", where=path, todo="write it with Transform.save")
    result: Transform | None = None
    try:
        matches = _read_matches(root[_MATCHES]) if _MATCHES in root else None
        for i in reversed(range(int(attributes["parts"]))):
            group = root[str(i)]
            field = None
            if "offsets" in group:
                at = dict(group.attrs)
                field = Displacement(group["offsets"][:], tuple(at["origin"]), at["spacing"], at["inverted"])
            result = Transform(group["matrix"][:], field, result, matches if i == 0 else None)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, DataError) as error:
        raise DataError(f"the transform is damaged: {error}", where=path, todo="write it again") from error
    if result is None:
        raise DataError("the transform is damaged: it has no part", where=path, todo="write it again")
    return result


def _write_matches(group: Any, matches: Matches) -> None:
    plan: Any = matches.plan
    group.attrs.update({"shape": list(matches.shape)})
    for name, part in (("weights", plan.data), ("columns", plan.indices), ("row_ends", plan.indptr)):
        group.create_array(name, data=np.array(part if name == "weights" else part.astype(np.int64)))


def _read_matches(group: Any) -> Matches:
    from scipy.sparse import csr_array

    parts = (group["weights"][:], group["columns"][:], group["row_ends"][:])
    return Matches(csr_array(parts, shape=tuple(group.attrs["shape"])))
