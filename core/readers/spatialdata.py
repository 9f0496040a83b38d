"""SpatialData zarr stores, through the ``spatialdata`` package (an extra)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.image import Slide
from stzoo.core.image_sources import to_rgb
from stzoo.core.interfaces import Reader
from stzoo.core.readers.adapt import to_section
from stzoo.core.readers.anndata_zarr import zarr_attributes
from stzoo.core.section import Section


class SpatialDataReader(Reader):
    """Reads each table of a SpatialData store, with the first image that has three channels."""

    format = "spatialdata"

    def recognises(self, path: Path) -> bool:
        """Look for a zarr group whose attributes say that it is a SpatialData."""
        return "spatialdata_attrs" in zarr_attributes(path)

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the tables."""
        tables = path / "tables"
        return sorted(p.name for p in tables.iterdir() if p.is_dir()) if tables.is_dir() else []

    def read(self, path: Path, section: str) -> Section:
        """Read one table; positions come from ``obsm["spatial"]`` or from the shapes it annotates."""
        data = _open(path)
        adata = data.tables[section].copy()
        if "spatial" not in adata.obsm:
            adata.obsm["spatial"] = _centres(data, adata, path)
        found = to_section(adata, section, path)
        image = next((im for im in map(_rgb, data.images.values()) if im is not None), None)
        if found.slide is None and image is not None:
            slide = Slide.from_array(image, mpp=found.mpp)
            return Section(adata, section, slide, found.mpp, found.spot_diameter_um, found.pitch_um)
        return found


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
        raise DataError(f"not a readable SpatialData store: {error}", where=path) from error


def _centres(data: Any, adata: Any, path: Path) -> Any:
    about = adata.uns.get("spatialdata_attrs")
    region = about["region"] if about else None
    region = region[0] if isinstance(region, list | np.ndarray) else region
    if region not in data.shapes:
        raise DataError(f"the table annotates '{region}', which is not among the shapes", where=path)
    shapes = data.shapes[region]
    centres = shapes.loc[adata.obs[about["instance_key"]].to_numpy()].geometry.centroid
    return np.column_stack([centres.x.to_numpy(), centres.y.to_numpy()])


def _rgb(image: Any) -> Any:
    if hasattr(image, "children"):  # a multi-scale image: the full resolution
        image = next(iter(next(iter(image.children.values())).data_vars.values()))
    return to_rgb(np.moveaxis(np.asarray(image), 0, -1)) if image.sizes.get("c") == 3 else None
