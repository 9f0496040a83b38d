"""What an AnnData says of itself: its raw counts, its units, and the sections it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from stzoo import DataError
from stzoo.core.data.lazy import is_whole, on_disk
from stzoo.core.data.notes import note

_DAMAGED = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError)
"""What anndata, h5py and zarr raise on files that are cut off, damaged, or of another kind."""

_UNITS = ("mpp", "microns_per_pixel", "pitch_um", "spot_diameter_um", "slide_scale")
_FACTORS = ("tissue_hires_scalef", "tissue_lowres_scalef")
_SECTION_COLUMNS = ("library_id", "section", "section_id", "bregma_mm", "Bregma")
_MOST_SECTIONS = 200


@contextmanager
def reading_anndata(what: str, path: Path) -> Iterator[None]:
    """Turn what anndata raises on a damaged file into one message.

    Parameters
    ----------
    what
        What the message calls the file.
    path
        The file or store.

    Raises
    ------
    DataError
        In place of whatever a file that is cut off, damaged or of another kind led to.
    """
    try:
        yield
    except Exception as error:
        notes = getattr(error, "__notes__", [])  # anndata says there which key it was; its own class is not public
        if not isinstance(error, _DAMAGED) and not any("reading key" in text for text in notes):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{what} is incomplete, damaged or none: {reason}", where=path, todo="copy or write it again"
        ) from error


def raw_counts(adata: Any, path: Path) -> Any:
    """Return the AnnData with raw counts in ``X``, float32 CSR (as it is where spots are hidden, or on disk).

    Where ``X`` holds no whole numbers but ``layers["counts"]`` does (scanpy's habit), those are taken, with a note.

    Raises
    ------
    DataError
        There is no ``X``, or it holds no numbers.
    """
    from scipy.sparse import csr_matrix

    if on_disk(adata.X):  # looked at already
        return adata
    if adata.X is None and "counts" not in adata.layers:
        raise DataError("there are no counts: X is empty", where=path, todo="put raw counts into X")
    if adata.X is None or (not is_whole(adata.X) and "counts" in adata.layers and is_whole(adata.layers["counts"])):
        adata.X = adata.layers["counts"].copy()
        note(adata, "counts are those of layers['counts']: X does not hold whole numbers")
    kind = adata.X.dtype.kind
    if kind not in "fiub":
        raise DataError(f"X holds {adata.X.dtype}, expected numbers", where=path, todo="put raw counts into X")
    if "measured" not in adata.obs or bool(np.asarray(adata.obs["measured"], dtype=bool).all()):
        adata.X = _check_matrix(csr_matrix(adata.X, dtype=np.float32), path)
    return adata


def _check_matrix(x: Any, path: Path) -> Any:
    try:
        x.check_format(full_check=True)
        x.sort_indices()
    except ValueError as error:
        raise DataError(f"X is damaged: {error}", where=path, todo="copy or write it again") from error
    if not x.has_canonical_format:
        raise DataError(
            "X names a gene twice in one row", where=path, todo="call X.sum_duplicates() and write it again"
        )
    return x


def read_units(adata: Any, factors: Mapping[str, Any], path: Path) -> dict[str, float]:
    """Return the units that an AnnData states, by name (``mpp``, ``pitch_um``, ``tissue_hires_scalef``, ...).

    Parameters
    ----------
    adata
        Its ``uns["meta"]``, where it is a JSON object, is asked as well.
    factors
        Scale factors and what stzoo wrote, which go first.

    Raises
    ------
    DataError
        A value is not a positive number.
    """
    given = {**_meta(adata), **factors}
    units: dict[str, float] = {}
    for key in (*_UNITS, *_FACTORS):
        value = given.get(key, "")
        if isinstance(value, str) and not value:
            continue
        try:
            number = float(np.asarray(value).item())
        except (TypeError, ValueError) as error:
            raise DataError(f"{key} is {value!r}, expected a number", where=f"{path}, uns") from error
        if not (np.isfinite(number) and number > 0):
            raise DataError(f"{key} is {number}, expected a positive number", where=f"{path}, uns")
        units.setdefault({"microns_per_pixel": "mpp"}.get(key, key), number)
    return units


def _meta(adata: Any) -> dict[str, Any]:
    try:
        found = json.loads(adata.uns["meta"])
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def section_names(group: Any, fallback: str) -> list[str]:
    """Return the names of the sections in an open .h5ad file or zarr group.

    Several, where an ``obs`` column that names sections has several values; otherwise the name that stzoo wrote, or
    the fallback.
    """
    from anndata.io import read_elem

    column = _section_column(group)
    if column is not None:
        return _values(read_elem(group["obs"][column]))
    kept = "uns/stzoo_section/name"
    return [str(read_elem(group[kept]))] if kept in group else [fallback]


def pick_section(adata: Any, name: str) -> Any:
    """Return the spots of one section of an AnnData that holds several, or all of them."""
    for column in _SECTION_COLUMNS:
        if column in adata.obs and 1 < len(names := _values(adata.obs[column])) <= _MOST_SECTIONS and name in names:
            return adata[_texts(adata.obs[column]) == name].copy()
    return adata


def _section_column(group: Any) -> str | None:
    from anndata.io import read_elem

    for column in _SECTION_COLUMNS:
        if f"obs/{column}" in group and 1 < len(_values(read_elem(group["obs"][column]))) <= _MOST_SECTIONS:
            return column
    return None


def _texts(values: Any) -> Any:
    array = np.asarray(values)
    return np.array([f"{v:g}" if isinstance(v, float | np.floating) else str(v) for v in array], dtype=object)


def _values(values: Any) -> list[str]:
    return list(dict.fromkeys(_texts(values)))
