"""From an AnnData in the ecosystem's conventions to a Section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stzoo import DataError, Section, StzooError
from stzoo.core.data.notes import NOTES, note
from stzoo.core.data.validate import check_places
from stzoo.core.io.write import ABOUT, check_version
from stzoo.core.slides import Slide, to_rgb
from stzoo.core.slides.pyramid import open_pyramid
from stzoo.plugins.readers.anndata_checks import raw_counts, read_units
from stzoo.plugins.readers.spaceranger import PITCH_UM, SPOT_UM, visium_lattice
from stzoo.plugins.readers.tables import image_beside, lattice_mpp


def to_section(adata: Any, name: str, path: Path) -> Section:
    """Make a Section of an AnnData in the squidpy convention.

    µm/px comes from what stzoo wrote, from ``scalefactors["microns_per_pixel"]``, from both kinds of positions, or
    from the lattice of ``array_row`` and ``array_col``; the slide from the zarr store, from the original file that
    stzoo noted, from ``uns["spatial"][library]["images"]``, or from a file ``images/NAME.*`` beside the data.

    Parameters
    ----------
    adata
        What was read; it becomes the section's own.
    name
        Name of the section.
    path
        The file or store.

    Raises
    ------
    DataError
        There are no positions or no counts, or a field has an impossible value.
    """
    about = adata.uns.pop(ABOUT, {})
    about = dict(about) if isinstance(about, Mapping) else {}
    check_version(about.get("format_version", 1), path)
    if about.get("spatial_unit") == "um" and {"spatial", "spatial_um"} <= set(adata.obsm):
        del adata.obsm["spatial"]  # micrometres again, written for scanpy: the section has no pixels
    if NOTES in adata.uns:
        adata.uns[NOTES] = [str(text) for text in adata.uns[NOTES]]
    check_places(adata.obsm, path)
    for key in ("spatial", "spatial_um"):
        if key in adata.obsm:
            adata.obsm[key] = np.asarray(adata.obsm[key], dtype=np.float64)
    adata = raw_counts(adata, path)
    _whole_array(adata, path)
    library = _library(adata, name)
    scale = library.get("scalefactors", {})
    stated = read_units(adata, {**scale, **about}, path)
    pitch, spot = stated.get("pitch_um"), stated.get("spot_diameter_um")
    if pitch is None and is_visium(adata):
        pitch, spot = PITCH_UM, SPOT_UM
    mpp = stated.get("mpp") or _fit_mpp(adata, pitch, path)
    if pitch is None:
        pitch = _lattice_pitch(adata, mpp)
    slide = _slide(adata, library.get("images", {}), stated, about, mpp, name, path)
    return Section(adata, name, slide, mpp, spot, pitch)


def is_visium(adata: Any) -> bool:
    """Say whether ``array_row`` and ``array_col`` are those of Visium's hexagonal lattice.

    Row and column are both even or both odd, and a step of one row is √3 times as far as a step of one column
    (other arrays with the same parity, such as the ST 2k array, are square).
    """
    if not {"array_row", "array_col"} <= set(adata.obs) or adata.n_obs < 3:
        return False
    row, column = (np.asarray(adata.obs[c], dtype=np.float64) for c in ("array_row", "array_col"))
    if not ((row + column) % 2 == 0).all() or not (row % 2).any():
        return False
    place = adata.obsm["spatial" if "spatial" in adata.obsm else "spatial_um"]
    fit = np.linalg.lstsq(np.column_stack([column, row, np.ones(len(row))]), place, rcond=None)[0]
    along, across = np.linalg.norm(fit[:2], axis=1)
    return bool(1.6 * along < across < 1.87 * along)


def _whole_array(adata: Any, path: Path) -> None:
    import pandas as pd

    for column in ("array_row", "array_col"):
        if column not in adata.obs:
            continue
        values = pd.to_numeric(adata.obs[column], errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values) | (values != np.rint(values)))
        if len(wrong):
            raise DataError(
                f"obs['{column}'] holds '{adata.obs[column].iloc[wrong[0]]}', expected whole numbers",
                where=f"{path}, spot '{adata.obs_names[wrong[0]]}'",
                todo="correct the column, or remove it",
            )
        adata.obs[column] = values.astype(np.int64)


def _library(adata: Any, name: str) -> dict[str, Any]:
    spatial = adata.uns.get("spatial")
    if not isinstance(spatial, Mapping) or not spatial:
        return {}
    found = spatial.get(name, next(iter(spatial.values())))
    return dict(found) if isinstance(found, Mapping) else {}


def _fit_mpp(adata: Any, pitch: float | None, path: Path) -> float | None:
    if "spatial" not in adata.obsm:
        return None
    pixels = adata.obsm["spatial"]
    if "spatial_um" in adata.obsm:
        return lattice_mpp(pixels, adata.obsm["spatial_um"], path)
    if pitch is None or not {"array_row", "array_col"} <= set(adata.obs):
        return None
    row, column = adata.obs["array_row"], adata.obs["array_col"]
    lattice = visium_lattice(row, column) if is_visium(adata) else np.column_stack([column, row]) * pitch
    return lattice_mpp(pixels, lattice, path)


def _lattice_pitch(adata: Any, mpp: float | None) -> float | None:
    """Return the pitch of an array: the distance to the nearest place of its fitted lattice.

    Spots stray from their places, so the nearest spot would be too near. None for cells, which have no array.
    """
    from scipy.spatial import cKDTree

    known = "spatial_um" in adata.obsm or mpp is not None
    if not known or not {"array_row", "array_col"} <= set(adata.obs) or adata.n_obs < 3:
        return None
    um = adata.obsm["spatial_um"] if "spatial_um" in adata.obsm else adata.obsm["spatial"] * mpp
    lattice = np.column_stack([adata.obs["array_col"], adata.obs["array_row"], np.ones(len(um))]).astype(np.float64)
    fitted = lattice @ np.linalg.lstsq(lattice, um, rcond=None)[0]
    distances: Any = cKDTree(fitted).query(fitted, k=2)[0]
    pitch = float(np.median(distances[:, 1]))
    return pitch if pitch > 0 else None


def _slide(
    adata: Any,
    images: Mapping[str, Any],
    stated: Mapping[str, float],
    about: Mapping[str, Any],
    mpp: float | None,
    name: str,
    path: Path,
) -> Slide | None:
    scale = stated.get("slide_scale", 1.0)
    kept = open_pyramid(path, mpp=mpp, scale=scale) or _original(adata, about, mpp, scale)
    if kept is not None:
        return kept
    for key in ("hires", "lowres"):
        if key in images:
            factor = stated.get(f"tissue_{key}_scalef")
            if factor is None:
                raise DataError(f"uns['spatial'] has an image '{key}' but no tissue_{key}_scalef", where=path)
            return Slide.from_array(_pixels(images[key], key, path), mpp=mpp, scale=factor)
    folders = (path.parent / "images", path.parent.parent / "images")
    names = dict.fromkeys((name, path.stem))
    file = next((f for folder in folders for n in names if (f := image_beside(folder, n)) is not None), None)
    return None if file is None else Slide.open(file, mpp=mpp)


def _original(adata: Any, about: Mapping[str, Any], mpp: float | None, scale: float) -> Slide | None:
    file = Path(str(about.get("slide") or ""))
    if not file.is_file():
        return None
    try:
        slide = Slide.open(file, mpp=mpp, scale=scale)
    except StzooError as error:
        note(adata, f"the original slide {file} can not be read any more ({error.what}): the reduced image is used")
        return None
    if "slide_size" in about and [slide.width, slide.height] != [int(side) for side in about["slide_size"]]:
        note(adata, f"{file} is not the slide that it was (its size differs): the reduced image is used")
        return None
    return slide


def _pixels(image: Any, key: str, path: Path) -> Any:
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":  # squidpy keeps images as 0..1 too
        pixels = np.clip(np.nan_to_num(pixels) * 255, 0, 255).astype(np.uint8)
    try:
        return to_rgb(pixels)
    except DataError as error:
        raise DataError(error.what, where=f"{path}, image '{key}' of uns['spatial']") from error
