"""From an AnnData in the ecosystem's conventions to a Section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.image import Slide
from stzoo.core.image_sources import to_rgb
from stzoo.core.readers.spaceranger import PITCH_UM, SPOT_UM, visium_lattice
from stzoo.core.readers.tables import lattice_mpp
from stzoo.core.section import Section

_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def to_section(adata: Any, name: str, path: Path) -> Section:
    """Make a Section of an AnnData in the squidpy convention.

    µm/px comes from what stzoo wrote, from ``scalefactors["microns_per_pixel"]``, from both kinds of positions,
    or from Visium's hexagonal lattice; the slide from stzoo's reference to the original file, from
    ``uns["spatial"][library]["images"]``, or from a file ``images/NAME.*`` beside the data.
    """
    library = _library(adata)
    scale = dict(library.get("scalefactors", {})) if library else {}
    kept = {key: value for key, value in dict(adata.uns.get("stzoo_section", {})).items() if value != ""}
    mpp = kept.get("mpp", scale.get("microns_per_pixel")) or _fitted_mpp(adata, path)
    pitch, spot = kept.get("pitch_um"), kept.get("spot_diameter_um")
    if pitch is None and _is_visium(adata):
        pitch, spot = PITCH_UM, SPOT_UM
    mpp = None if mpp is None else float(mpp)
    slide = _slide(library, scale, kept, mpp, name, path)
    return Section(adata, name, slide, mpp, _number(spot), _number(pitch))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _library(adata: Any) -> dict[str, Any] | None:
    spatial = adata.uns.get("spatial")
    if not isinstance(spatial, dict) or not spatial:
        return None
    first = next(iter(spatial.values()))
    return dict(first) if isinstance(first, dict) else None


def _is_visium(adata: Any) -> bool:
    if not {"array_row", "array_col"} <= set(adata.obs) or adata.n_obs < 3:
        return False
    row, column = (np.asarray(adata.obs[c], dtype=float) for c in ("array_row", "array_col"))
    return bool(((row + column) % 2 == 0).all() and (row % 2).any())


def _fitted_mpp(adata: Any, path: Path) -> float | None:
    if "spatial" not in adata.obsm:
        return None
    pixels = np.asarray(adata.obsm["spatial"], dtype=np.float64)
    if not np.isfinite(pixels).all():
        raise DataError("obsm['spatial'] is not finite", where=path, todo="remove spots without place")
    if "spatial_um" in adata.obsm:
        return lattice_mpp(pixels, np.asarray(adata.obsm["spatial_um"], dtype=np.float64), path)
    if _is_visium(adata):
        return lattice_mpp(pixels, visium_lattice(adata.obs["array_row"], adata.obs["array_col"]), path)
    return None


def _slide(
    library: dict[str, Any] | None,
    scale: dict[str, Any],
    kept: dict[str, Any],
    mpp: float | None,
    name: str,
    path: Path,
) -> Slide | None:
    original = kept.get("slide")
    if original and Path(original).is_file():
        return Slide.open(original, mpp=mpp, scale=float(kept.get("slide_scale", 1.0)))
    for folder in (path.parent / "images", path.parent.parent / "images"):
        file = next((f for s in _SUFFIXES if (f := folder / f"{name}{s}").is_file()), None)
        if file is not None and not (library and library.get("images")):
            return Slide.open(file, mpp=mpp)
    images = dict(library.get("images", {})) if library else {}
    for key in ("hires", "lowres"):
        if key in images:
            pixels = np.asarray(images[key])
            if pixels.dtype.kind == "f":
                pixels = np.clip(pixels * 255, 0, 255).astype(np.uint8)
            return Slide.from_array(to_rgb(pixels), mpp=mpp, scale=float(scale.get(f"tissue_{key}_scalef", 1.0)))
    return None
