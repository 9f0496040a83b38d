"""A transform on disk: a zarr v3 group with one sub-group a part, and the matches where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.geometry.displacement import Displacement
from stzoo.core.geometry.matches import Matches
from stzoo.core.geometry.transform import Transform
from stzoo.core.runtime.outputs import writing

FORMAT_VERSION = 1
_MATCHES = "matches"


def save(transform: Transform, path: Path, *, overwrite: bool = False) -> Path:
    """Write a transform; see :meth:`stzoo.core.geometry.transform.Transform.save`."""
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


def load(path: Path) -> Transform:
    """Read a transform; see :meth:`stzoo.core.geometry.transform.Transform.load`."""
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
