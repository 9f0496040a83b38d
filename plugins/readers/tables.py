"""Small tables beside the counts (positions, scale factors), read so that a damaged file names itself."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo import DataError, UnitsError
from stzoo.plugins.readers.text_counts import open_text, read_header

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def read_table(path: Path, *, sep: str, header: bool = True, text: bool = False) -> Any:
    """Read a text table (gzipped or not) as a DataFrame.

    Parameters
    ----------
    path, sep
        The file, and its delimiter: a tab or a comma.
    header
        Whether the first row holds the names of the columns (otherwise they are numbered).
    text
        Keep every field as text.

    Raises
    ------
    DataError
        The file is missing, empty, cut off or not text, or has another delimiter.
    """
    import pandas as pd

    options: dict[str, Any] = {"dtype": str, "keep_default_na": False} if text else {"low_memory": False}
    try:
        with open_text(path) as file:
            read_header(path, file.readline().rstrip(b"\r\n"), sep, unique=False)
            file.seek(0)
            return pd.read_csv(file, sep=sep, header=0 if header else None, **options)
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"the gzip file is cut off or damaged: {error}", where=path, todo="copy or download it again"
        ) from error
    except (OSError, ValueError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        raise DataError(f"not a readable table: {error}", where=path, todo="save it as UTF-8 text") from error


def need_columns(table: Any, columns: Sequence[str], path: Path) -> None:
    """Refuse a table that lacks a column.

    Raises
    ------
    DataError
        Naming the missing column and those that were found.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        found = ", ".join(str(column) for column in list(table.columns)[:8])
        raise DataError(f"no column '{missing[0]}'", where=path, todo=f"expected {', '.join(columns)}; found {found}")


def numbers(table: Any, columns: Sequence[Any], path: Path) -> npt.NDArray[np.float64]:
    """Return columns of a table as finite numbers, float64 (rows, columns).

    Raises
    ------
    DataError
        A field is empty or no finite number; row and column are named.
    """
    import pandas as pd

    out = np.column_stack([pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64) for column in columns])
    wrong = np.argwhere(~np.isfinite(out))
    if len(wrong):
        row, column = wrong[0]
        value = table[columns[column]].iloc[row]
        raise DataError(
            f"column '{columns[column]}' holds '{value}', expected a finite number",
            where=f"{path}, row '{table.index[row]}'",
            todo="correct the field, or leave the row out",
        )
    return out


def require_unique(names: Any, what: str, path: Path) -> None:
    """Refuse a table in which a name stands twice.

    Raises
    ------
    DataError
        Naming the first such name.
    """
    twice = names[names.duplicated()]
    if len(twice):
        raise DataError(
            f"{len(twice)} {what}s stand more than once, e.g. '{twice[0]}'",
            where=path,
            todo=f"keep one row for every {what}",
        )


def read_parquet(path: Path) -> Any:
    """Read a parquet file as a DataFrame.

    Raises
    ------
    DataError
        The file is none, or is damaged.
    """
    import pandas as pd
    import pyarrow

    try:
        return pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"not a readable parquet file: {reason}", where=path, todo="copy or download it again"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    DataError
        The file is missing, or has a syntax error (line and column are named).
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}", todo="check that the folder is complete") from error
    except (ValueError, OSError) as error:
        raise DataError(f"not readable as JSON: {error}", where=path, todo="copy or download it again") from error
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, found a {type(value).__name__}", where=path)
    return value


def json_number(content: dict[str, Any], key: str, path: Path) -> float:
    """Return a positive number of a JSON object.

    Raises
    ------
    DataError
        The key is missing or its value is not a positive number.
    """
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (np.isfinite(value) and value > 0):
        state = f"is {value!r}" if key in content else "is missing"
        raise DataError(f"'{key}' {state}, expected a positive number", where=path, todo="copy the file again")
    return float(value)


def lattice_mpp(pixels: npt.NDArray[Any], lattice_um: npt.NDArray[Any], where: Path) -> float | None:
    """Return µm/px from spots whose place on the array is known in micrometres.

    Parameters
    ----------
    pixels, lattice_um
        float (n, 2) each, x then y.
    where
        The file to name in an error.

    Returns
    -------
    The root of the area scale of the linear map fitted by least squares; None for fewer than three spots or spots
    on one line.

    Raises
    ------
    UnitsError
        The lattice is sheared or stretched by more than 10 %, so there is no one scale.
    """
    source = np.column_stack([lattice_um, np.ones(len(lattice_um))])
    if len(pixels) < 3 or np.linalg.matrix_rank(source) < 3:
        return None
    fit = np.linalg.lstsq(source, pixels, rcond=None)[0][:2]
    scales = np.linalg.svd(fit, compute_uv=False)
    if scales[1] < 0.9 * scales[0]:
        raise UnitsError(
            f"the spots give {1 / scales[0]:.3g} µm/px in one direction and {1 / max(scales[1], 1e-9):.3g} in another",
            where=where,
            todo="check the columns of array and pixel positions",
        )
    return float(1 / np.sqrt(scales[0] * scales[1]))


def image_beside(folder: Path, name: str) -> Path | None:
    """Return the image ``FOLDER/NAME.jpg`` (or .png, .tif, ...), or None."""
    return next((file for suffix in IMAGE_SUFFIXES if (file := folder / f"{name}{suffix}").is_file()), None)


def is_file(path: Path, *suffixes: str) -> bool:
    """Say whether a path is a file with one of the suffixes."""
    return path.is_file() and path.name.lower().endswith(suffixes)
