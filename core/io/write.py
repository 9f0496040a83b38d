"""Sections on disk: .h5ad and zarr v3 that anndata, scanpy and squidpy open as they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, OutputError, UsageError
from stzoo.core.runtime import blocks
from stzoo.core.runtime.outputs import writing
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.slides.pyramid import write_pyramid

FORMAT_VERSION = 2
"""Version of what stzoo adds to an AnnData (``uns["stzoo_section"]``, and ``slide/`` in a zarr store).

1: the slide by its path and as a reduced image. 2: a zarr store holds the slide whole.
"""

ABOUT = "stzoo_section"
"""Key of ``uns`` under which a written section keeps its name, units and version."""

_HIRES_PX = 2000

_COLUMNS = 1024
"""Columns of a chunk of an array that is written block by block."""


def write(section: Section, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a section; :func:`stzoo.core.io.read.read` gives it back.

    Parameters
    ----------
    section
        The section; its AnnData is not changed.
    path
        ``NAME.h5ad`` or ``NAME.zarr`` (zarr v3).
    overwrite
        Replace what is there.

    Returns
    -------
    The path. It is whole or absent, whatever happens on the way.

    Raises
    ------
    UsageError
        The name has another suffix.
    OutputError
        The output exists or can not be written, or the AnnData holds something that no file can.

    Notes
    -----
    ``obsm["spatial"]`` is always there, since scanpy and squidpy look for it: pixels of the slide, or, for a section
    without them, micrometres; ``uns["stzoo_section"]["spatial_unit"]`` says which (``px``, ``um``).

    Both keep a reduced image (at most 2000 px) in the squidpy convention, ``uns["spatial"][name]``. A zarr store
    holds the slide whole, as a chunked pyramid; a .h5ad file names the original file, which is used again where it
    is still found with the same size.
    """
    path = Path(path)
    suffix = check_suffix(path)
    with writing(path, overwrite=overwrite) as scratch, _naming_keys():
        adata = _annotate(section)
        if suffix == ".h5ad":
            adata.write_h5ad(scratch, compression="gzip")
        else:
            _write_zarr(adata, scratch)
            if section.slide is not None:
                write_pyramid(section.slide, scratch)
    return path


def check_suffix(path: Path) -> str:
    """Return the suffix of a section's file, ``.h5ad`` or ``.zarr``.

    Raises
    ------
    UsageError
        It has another one.
    """
    if path.suffix not in (".h5ad", ".zarr"):
        raise UsageError(f"'{path.name}' has no known suffix", todo="write to NAME.h5ad or NAME.zarr")
    return path.suffix


def bare_frame(section: Section, genes: Sequence[str], about: Mapping[str, Any]) -> Section:
    """Return a section's spots, positions and slide with other genes as its columns, and nothing in them yet.

    Parameters
    ----------
    about
        ``uns["stzoo"]`` of the result: what made it.
    """
    from anndata import AnnData

    places = {key: section.adata.obsm[key] for key in ("spatial", "spatial_um") if key in section.adata.obsm}
    adata = AnnData(obs=section.adata.obs.copy(), obsm=places, shape=(section.n_spots, len(genes)))
    adata.var_names = list(genes)
    adata.uns["stzoo"] = dict(about)
    return replace(section, adata=adata)


def write_shared(section: Section, path: Path, ranks: Ranks = ALONE, *, embed_slide: bool = True) -> None:
    """Write a section into a zarr store, or a group of one, block by block, which the caller makes whole.

    Counts and layers may lie on disk: a block is read at a time. Every chunk of every array is there, also those
    of zeros only, so that a store that was copied in part can be told from a whole one.

    Parameters
    ----------
    section
        Its X and layers are arrays, or CSR; they are written as float32.
    path
        Where; all ranks see it.
    ranks
        The processes that share the blocks; all call this.
    embed_slide
        Put the slide whole into the store; else it is named by its path, with a reduced image, as in a .h5ad file.

    Raises
    ------
    OutputError
        The AnnData holds something that no file can.
    """
    import zarr

    arrays = {"X": section.adata.X, **{f"layers/{name}": layer for name, layer in section.adata.layers.items()}}
    if ranks.is_main:
        write_frame(section, path)
        for name, array in arrays.items():
            add_array(path, name, array.shape)
    ranks.barrier()
    with zarr.config.set({"array.write_empty_chunks": True}):
        store: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
        for rows in blocks.BlockShare(section.n_spots, ranks).blocks:
            for name, array in arrays.items():
                block = array[rows]
                store[name][rows] = block.toarray() if hasattr(block, "toarray") else block
    ranks.barrier()
    if ranks.is_main:
        close_frame(section if embed_slide else replace(section, slide=None), path)


def write_frame(section: Section, path: Path) -> None:
    """Write a zarr store without counts and layers, which :func:`add_array` adds, as :func:`write` lays it out.

    The caller makes it whole (:func:`stzoo.core.runtime.outputs.writing`, then :func:`close_frame`).

    Raises
    ------
    OutputError
        The AnnData holds something that no file can.
    """
    from anndata import AnnData

    whole = section.adata
    frame = AnnData(obs=whole.obs, var=whole.var, obsm=dict(whole.obsm), uns=dict(whole.uns))
    with _naming_keys():
        _write_zarr(_annotate(replace(section, adata=frame)), path)


def add_array(path: Path, name: str, shape: tuple[int, int]) -> Any:
    """Add an array to a store of :func:`write_frame`, float32, NaN where nothing is written.

    Parameters
    ----------
    name
        ``X``, ``layers/NAME`` or ``obsm/NAME``.
    shape
        Spots and columns.

    Returns
    -------
    The zarr array. A chunk has the spots of one block, so that processes may each write their own blocks.
    """
    import zarr

    with _naming_keys():
        array = zarr.open_group(path, mode="r+").create_array(
            name,
            shape=shape,
            dtype="float32",
            chunks=(max(1, min(blocks.BLOCK, shape[0])), max(1, min(_COLUMNS, shape[1]))),
            fill_value=float("nan"),
            attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
        )
    return array


def close_frame(section: Section, path: Path) -> None:
    """Put the slide into a store whose arrays are all there, and list what it holds."""
    import zarr

    if section.slide is not None:
        write_pyramid(section.slide, path)
    with _naming_keys():
        zarr.consolidate_metadata(path)


@contextmanager
def _naming_keys() -> Iterator[None]:
    """Keep anndata's warnings for developers quiet, and name the key of what it can not write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            notes = [text for text in getattr(error, "__notes__", []) if "writing key" in text]
            if not notes:  # anndata's own class for this is not public, its note on the key is
                raise
            raise OutputError(f"the section can not be written: {error}", where=notes[0], todo="remove it") from error


def check_version(version: Any, where: Path) -> None:
    """Refuse a format version that this stzoo does not know.

    Raises
    ------
    DataError
        The version is newer than :data:`FORMAT_VERSION`, or is no version at all.
    """
    try:
        number = int(version)
    except (TypeError, ValueError) as error:
        raise DataError(f"format version {version!r} is not a number", where=where, todo="write it again") from error
    if number < 1:
        raise DataError(f"format version {number} never existed", where=where, todo="write it again")
    if number > FORMAT_VERSION:
        raise DataError(
            f"the store has format version {number}, this stzoo reads up to {FORMAT_VERSION}",
            where=where,
            todo="pip install --upgrade stzoo",
        )


def _write_zarr(adata: Any, path: Path) -> None:
    import anndata

    with anndata.settings.override(zarr_write_format=3):
        adata.write_zarr(path)


def _annotate(section: Section) -> Any:
    adata = section.adata.copy()
    slide = section.slide
    about: dict[str, Any] = {"format_version": FORMAT_VERSION, "name": section.name}
    about["spatial_unit"] = "px" if "spatial" in adata.obsm else "um"
    if "spatial" not in adata.obsm and "spatial_um" in adata.obsm:
        adata.obsm["spatial"] = section.um
    for unit in ("mpp", "spot_diameter_um", "pitch_um"):
        if getattr(section, unit) is not None:
            about[unit] = float(getattr(section, unit))
    if slide is not None:
        about |= {"slide_scale": slide.scale, "slide_size": np.array([slide.width, slide.height])}
        if slide.path is not None:
            about["slide"] = str(slide.path.resolve())
        adata.uns["spatial"] = {section.name: _squidpy(section)}
    adata.uns[ABOUT] = about
    return adata


def _squidpy(section: Section) -> dict[str, Any]:
    image, scale = section.require_slide().thumbnail(_HIRES_PX)
    factors = {"tissue_hires_scalef": scale}
    if section.mpp is not None:
        factors["microns_per_pixel"] = section.mpp
        diameter = section.spot_diameter_um or section.pitch_um
        if diameter is not None:
            factors["spot_diameter_fullres"] = diameter / section.mpp
    return {"images": {"hires": np.ascontiguousarray(image)}, "scalefactors": factors}
