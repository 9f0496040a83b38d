"""The matrices of 10x Genomics: feature-barcode HDF5 files and MEX folders."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from stzoo import DataError
from stzoo.core.data.notes import list_names, make_adata
from stzoo.plugins.readers.tables import read_table
from stzoo.plugins.readers.text_counts import open_text

GENES = "Gene Expression"
_FIELDS = ("barcodes", "data", "indices", "indptr", "shape", "features/id", "features/name")


def find_matrix(folder: Path, stem: str) -> Path | None:
    """Return ``STEM.h5`` or the folder ``STEM``; a prefix (as in 10x's downloads, ``SAMPLE_STEM.h5``) is allowed."""
    exact = [folder / f"{stem}.h5", folder / stem]
    prefixed = sorted(folder.glob(f"*_{stem}.h5")) if folder.is_dir() else []
    return next((path for path in [*exact, *(prefixed if len(prefixed) == 1 else [])] if path.exists()), None)


def read_matrix(path: Path) -> Any:
    """Read a feature-barcode matrix as an AnnData of barcodes x genes (float32 CSR).

    Parameters
    ----------
    path
        An HDF5 file (Cell Ranger 3 or later) or a MEX folder (matrix, features or genes, barcodes; gzipped or not).

    Returns
    -------
    Features of other types than gene expression (control probes, antibodies) are left out. Symbols that stand more
    than once get a suffix, as scanpy does it. Both are noted. ``var["gene_ids"]`` keeps the Ensembl ids.

    Raises
    ------
    DataError
        A field or file is missing, damaged or does not fit the others.
    """
    return _read_mex(path) if path.is_dir() else _read_h5(path)


def _read_h5(path: Path) -> Any:
    import h5py
    from scipy.sparse import csr_matrix

    try:
        with h5py.File(path) as file:
            matrix = file.get("matrix")
            if matrix is None:
                raise DataError("no group 'matrix'", where=path, todo="give a Cell Ranger 3+ feature-barcode matrix")
            missing = [field for field in _FIELDS if field not in matrix]
            if missing:
                raise DataError(f"no field 'matrix/{missing[0]}'", where=path, todo="copy or download it again")
            n_features, n_barcodes = (int(n) for n in matrix["shape"][:])
            parts = matrix["data"][:].astype(np.float32), matrix["indices"][:], matrix["indptr"][:]
            barcodes, ids, symbols = (_text(matrix[name][:]) for name in ("barcodes", "features/id", "features/name"))
            kinds = matrix.get("features/feature_type")
            kinds = _text(kinds[:]) if kinds is not None else [GENES] * n_features
        x = csr_matrix(parts, shape=(n_barcodes, n_features))
        x.check_format(full_check=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"the HDF5 file is cut off or damaged: {error}", where=path, todo="copy or download it again"
        ) from error
    return _assemble(x, barcodes, ids, symbols, kinds, path)


def _read_mex(folder: Path) -> Any:
    from scipy.io import mmread
    from scipy.sparse import csr_matrix

    file = _part(folder, "matrix.mtx")
    features_file = _part(folder, "features.tsv", "genes.tsv")
    features = read_table(features_file, sep="\t", header=False, text=True)
    barcodes = _lines(_part(folder, "barcodes.tsv"))
    try:
        x = csr_matrix(mmread(file).T, dtype=np.float32)
    except (OSError, ValueError, EOFError, OverflowError, zlib.error) as error:
        raise DataError(
            f"the matrix is cut off or damaged: {error}", where=file, todo="copy or download it again"
        ) from error
    kinds = list(features[2]) if features.shape[1] > 2 else [GENES] * len(features)
    return _assemble(x, barcodes, list(features[0]), list(features[1]), kinds, folder)


def _part(folder: Path, *names: str) -> Path:
    found = [file for name in names for suffix in (".gz", "") if (file := folder / f"{name}{suffix}").exists()]
    if not found:
        raise DataError(
            f"no {names[0]}.gz", where=folder, todo="give the folder with matrix.mtx, features.tsv and barcodes.tsv"
        )
    return found[0]


def _assemble(x: Any, barcodes: list[str], ids: list[str], symbols: list[str], kinds: list[str], where: Path) -> Any:
    from anndata.utils import make_index_unique
    from pandas import Index

    if x.shape != (len(barcodes), len(ids)) or len(symbols) != len(ids) or len(kinds) != len(ids):
        raise DataError(
            f"the matrix has {x.shape[1]} features and {x.shape[0]} barcodes, but {len(ids)} features and"
            f" {len(barcodes)} barcodes are named",
            where=where,
            todo="take all parts of the matrix from one run",
        )
    wanted = np.flatnonzero([kind == GENES for kind in kinds])
    if len(wanted) == 0:
        raise DataError(
            f"no feature is '{GENES}' (found: {list_names(set(kinds))})", where=where, todo="check the matrix"
        )
    names = [symbols[i] for i in wanted]
    adata = make_adata(x[:, wanted], barcodes, list(make_index_unique(Index(names))), _notes(kinds, names))
    adata.var["gene_ids"] = [ids[i] for i in wanted]
    return adata


def _notes(kinds: list[str], names: list[str]) -> list[str]:
    other = Counter(kind for kind in kinds if kind != GENES)
    twice = [name for name, times in Counter(names).items() if times > 1]
    notes = []
    if other:
        kinds_text = ", ".join(f"{n} {kind}" for kind, n in other.most_common())
        notes.append(f"features that are not genes left out: {kinds_text}")
    if twice:
        notes.append(f"symbols that stand more than once got suffixes: {list_names(twice)}")
    return notes


def _text(values: Any) -> list[str]:
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _lines(path: Path) -> list[str]:
    try:
        with open_text(path) as file:
            return file.read().decode("utf-8").split()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"the file is cut off, damaged or no text: {error}", where=path, todo="copy or download it again"
        ) from error
