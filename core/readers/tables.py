"""Reading tables so that a damaged file names itself."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.errors import DataError, UnitsError


def read_table(path: Path, *, sep: str, **options: Any) -> Any:
    """Read a text table (gzipped or not) as a DataFrame.

    Raises
    ------
    DataError
        The file is missing, cut off, not text, or has another delimiter.
    """
    import pandas as pd

    name = {"\t": "tab", ",": "comma"}[sep]
    try:
        table = pd.read_csv(path, sep=sep, low_memory=False, **options)
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}", todo="check that the folder is complete") from error
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"the file is cut off or damaged: {error}", where=path, todo="copy or download it again"
        ) from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataError(f"not a readable {name}-separated table: {error}", where=path) from error
    if table.shape[1] < 2:
        raise DataError(
            f"only {table.shape[1]} column found, so it is not {name}-separated", where=path, todo=f"use {name}s"
        )
    return table


def counts_matrix(table: Any, path: Path) -> Any:
    """Return a table of counts as float32 CSR.

    Raises
    ------
    DataError
        A column is not numeric, or the table has no value at all.
    """
    import pandas as pd
    from scipy.sparse import csr_matrix

    if table.shape[0] == 0 or table.shape[1] == 0:
        raise DataError(f"the table is empty: {table.shape[0]} rows, {table.shape[1]} genes", where=path)
    text = [c for c, kind in zip(table.columns, table.dtypes, strict=True) if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        bad = table[text[0]][pd.to_numeric(table[text[0]], errors="coerce").isna()]
        value = bad.iloc[0] if len(bad) else "?"
        raise DataError(
            f"column '{text[0]}' holds '{value}', expected counts", where=path, todo="give numbers, tab or comma apart"
        )
    return csr_matrix(table.to_numpy(dtype=np.float32))


def need_columns(table: Any, columns: tuple[str, ...], path: Path) -> None:
    """Refuse a table that lacks a column."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        found = ", ".join(str(column) for column in list(table.columns)[:8])
        raise DataError(f"no column '{missing[0]}'", where=path, todo=f"expected {', '.join(columns)}; found {found}")


def read_parquet(path: Path) -> Any:
    """Read a parquet file as a DataFrame, or say that it is none."""
    import pandas as pd
    import pyarrow

    try:
        return pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not a readable parquet file: {error}", where=path, todo="copy it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a syntax error names line and column."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}", todo="check that the folder is complete") from error
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"not readable as JSON: {error}", where=path) from error
    if not isinstance(value, dict):
        raise DataError("expected a JSON object", where=path)
    return value


def lattice_mpp(pixels: npt.NDArray[Any], lattice_um: npt.NDArray[Any], where: Path) -> float | None:
    """Return µm/px from spots whose place on the array is known in micrometres.

    A linear map is fitted by least squares; µm/px is the root of its area scale. None for fewer than three spots
    or spots on one line. A lattice that is sheared or stretched by more than 10 % is refused.
    """
    if len(pixels) < 3:
        return None
    source = np.column_stack([lattice_um, np.ones(len(lattice_um))])
    if np.linalg.matrix_rank(source) < 3:
        return None
    fit = np.linalg.lstsq(source, pixels, rcond=None)[0][:2]
    scales = np.linalg.svd(fit, compute_uv=False)
    if scales[1] < 0.9 * scales[0]:
        raise UnitsError(
            f"spots lie {1 / scales[0]:.3g} to {1 / scales[1]:.3g} µm/px apart in different directions",
            where=where,
            todo="check the columns of positions, or give --mpp",
        )
    return float(1 / np.sqrt(scales[0] * scales[1]))


def is_file(path: Path, *suffixes: str) -> bool:
    """Say whether a path is a file with one of the suffixes."""
    return path.is_file() and path.name.lower().endswith(suffixes)
