"""SpatialData zarr stores, through the ``spatialdata`` package (an extra)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from stzoo import DataError, Reader, Section
from stzoo.core.slides import Slide, to_rgb
from stzoo.plugins.readers.anndata_section import to_section
from stzoo.plugins.readers.anndata_zarr import zarr_attributes


class SpatialDataReader(Reader):
    """Reads each table of a SpatialData store, with the first image that has three channels.

    Positions are those of the shapes that the table annotates, brought into pixels of that image by the
    transformations that both have to a coordinate system they share.
    """

    format = "spatialdata"

    def recognises(self, path: Path) -> bool:
        """Look for a zarr group whose attributes say that it is a SpatialData."""
        return "spatialdata_attrs" in zarr_attributes(path)

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the tables."""
        tables = path / "tables"
        return sorted(p.name for p in tables.iterdir() if p.is_dir()) if tables.is_dir() else []

    def read(self, path: Path, section: str) -> Section:
        """Read one table."""
        data = _open(path)
        if section not in data.tables:
            raise DataError(
                f"the SpatialData store is incomplete or damaged: table '{section}' can not be read",
                where=path / "tables" / section,
                todo="copy or write it again",
            )
        adata = data.tables[section].copy()
        shapes = _shapes(data, adata, path)
        image = next((image for image in map(_full, data.images.values()) if image.sizes.get("c") == 3), None)
        centres = _centres(shapes, adata, path)
        if image is None:
            adata.obsm.setdefault("spatial", centres)
            return to_section(adata, section, path)
        adata.obsm["spatial"] = _to_pixels(centres, shapes, image, path)
        found = to_section(adata, section, path)
        pixels = to_rgb(np.moveaxis(np.asarray(image), 0, -1))
        return replace(found, slide=Slide.from_array(pixels, mpp=found.mpp))


def _open(path: Path) -> Any:
    try:
        import spatialdata
    except ImportError as error:
        raise DataError(
            "SpatialData stores need the package spatialdata", where=path, todo="pip install 'stzoo[spatialdata]'"
        ) from error
    try:
        return spatialdata.read_zarr(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"the SpatialData store is incomplete or damaged: {error}", where=path, todo="copy or write it again"
        ) from error


def _full(image: Any) -> Any:
    """Return the full resolution of an image that may have several."""
    return next(iter(next(iter(image.children.values())).data_vars.values())) if hasattr(image, "children") else image


def _shapes(data: Any, adata: Any, path: Path) -> Any:
    about = adata.uns.get("spatialdata_attrs")
    if about is None:
        raise DataError("the table annotates no shapes", where=path, todo="give a table of spots or cells")
    region = about["region"]
    region = region if isinstance(region, str) else region[0]
    if region not in data.shapes:
        raise DataError(f"the table annotates '{region}', which is not among the shapes", where=path)
    return data.shapes[region]


def _centres(shapes: Any, adata: Any, path: Path) -> Any:
    instances = adata.obs[adata.uns["spatialdata_attrs"]["instance_key"]].to_numpy()
    unknown = set(instances) - set(shapes.index)
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(instances)} rows of the table have no shape, e.g. '{next(iter(unknown))}'",
            where=path,
            todo="keep the rows that have one",
        )
    centres = shapes.loc[instances].geometry.centroid
    return np.column_stack([centres.x.to_numpy(), centres.y.to_numpy()])


def _to_pixels(centres: Any, shapes: Any, image: Any, path: Path) -> Any:
    from spatialdata.transformations import get_transformation

    ours, theirs = (get_transformation(element, get_all=True) for element in (shapes, image))
    shared = sorted(set(ours) & set(theirs))
    if not shared:
        raise DataError("shapes and image share no coordinate system", where=path, todo="give both one, e.g. 'global'")
    axes = ("x", "y")
    there = ours[shared[0]].to_affine_matrix(axes, axes)
    back = np.linalg.inv(theirs[shared[0]].to_affine_matrix(axes, axes))
    return (np.column_stack([centres, np.ones(len(centres))]) @ (back @ there).T)[:, :2]
