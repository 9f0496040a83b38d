"""Sections on disk: .h5ad and zarr v3 that anndata, scanpy and squidpy open as they are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import UsageError
from stzoo.core.output import writing
from stzoo.core.section import Section

FORMAT_VERSION = 1
"""Version of what stzoo adds to an AnnData store (``uns["stzoo_section"]`` and the group's attributes)."""

_HIRES_PX = 2000


def write(section: Section, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a section.

    Parameters
    ----------
    section
        The section; its AnnData is not changed.
    path
        ``NAME.h5ad`` or ``NAME.zarr`` (zarr v3).
    overwrite
        Replace what is there.

    Notes
    -----
    The slide is kept in the squidpy convention (``uns["spatial"][name]["images"]["hires"]``, at most 2000 px), and
    by the path of the original file, which is used again wherever it is still found.
    """
    path = Path(path)
    if path.suffix not in (".h5ad", ".zarr"):
        raise UsageError(f"'{path.name}' has no known suffix", todo="write to NAME.h5ad or NAME.zarr")
    with writing(path, overwrite=overwrite) as scratch:
        adata = _annotated(section)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == ".h5ad":
                adata.write_h5ad(scratch, compression="gzip")
            else:
                _write_zarr(adata, scratch)
    return path


def _write_zarr(adata: Any, path: Path) -> None:
    import anndata
    import zarr

    with anndata.settings.override(zarr_write_format=3):
        adata.write_zarr(path)
    zarr.open_group(path, mode="r+").attrs["stzoo_format_version"] = FORMAT_VERSION


def _annotated(section: Section) -> Any:
    adata = section.adata.copy()
    slide = section.slide
    about: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": section.name,
        "mpp": _value(section.mpp),
        "spot_diameter_um": _value(section.spot_diameter_um),
        "pitch_um": _value(section.pitch_um),
        "slide": "" if slide is None or slide.path is None else str(slide.path.resolve()),
        "slide_scale": 1.0 if slide is None else slide.scale,
    }
    adata.uns["stzoo_section"] = about
    if slide is not None:
        image, scale = slide.thumbnail(_HIRES_PX)
        factors = {"tissue_hires_scalef": scale}
        if section.mpp is not None:
            factors["microns_per_pixel"] = section.mpp
            factors["spot_diameter_fullres"] = (section.spot_diameter_um or 1.0) / section.mpp
        adata.uns["spatial"] = {
            section.name: {"images": {"hires": np.ascontiguousarray(image)}, "scalefactors": factors}
        }
    return adata


def _value(number: float | None) -> float | str:
    return "" if number is None else float(number)
