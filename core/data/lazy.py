"""Counts that stay on disk; rows are read on demand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_ROWS = 8192
"""Rows per chunk when checking."""


def on_disk(x: Any) -> bool:
    """Return whether a matrix is an on-disk sparse dataset of anndata."""
    return hasattr(x, "to_memory")


def pieces(x: Any) -> Iterator[tuple[int, Any]]:
    """Yield (index of the first row, rows) of a matrix, in chunks if it is on disk."""
    if not on_disk(x):
        yield 0, x
        return
    for start in range(0, x.shape[0], _ROWS):
        yield start, x[start : start + _ROWS]


def lazy_anndata(group: Any) -> Any | None:
    """Return the AnnData of an open .h5ad file or zarr group, without layers, its counts on disk.

    None if ``X`` is not a CSR matrix of integers, or if some spots are hidden: such a file must be read completely.
    """
    from anndata import AnnData
    from anndata.io import read_elem, sparse_dataset

    if "X" not in group or group["X"].attrs.get("encoding-type") != "csr_matrix":
        return None
    x = sparse_dataset(group["X"])
    parts = {name: read_elem(group[name]) for name in ("obs", "var", "obsm", "uns") if name in group}
    hidden = "measured" in parts["obs"] and not np.asarray(parts["obs"]["measured"], dtype=bool).all()
    if hidden or x.dtype.kind not in "fiub" or not all(is_whole(part) for _, part in pieces(x)):
        return None
    return AnnData(x, **parts)


def is_whole(x: Any) -> bool:
    """Return whether all finite values are integers."""
    data = np.asarray(x.data if hasattr(x, "tocoo") else x)
    if data.dtype.kind in "iub":
        return True
    data = data[np.isfinite(data)]
    return bool((data == np.rint(data)).all())
