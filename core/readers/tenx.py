"""The matrices of 10x Genomics: feature-barcode HDF5 files and MEX folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.readers.tables import read_table

GENES = "Gene Expression"
_H5_FIELDS = ("barcodes", "data", "indices", "indptr", "shape", "features/id", "features/name")


def read_matrix(folder: Path, stem: str) -> Any:
    """Read ``STEM.h5`` or the folder ``STEM`` as an AnnData of barcodes x genes (float32 CSR).

    Features of other types than gene expression (control probes, antibodies) are left out. Symbols that stand
    more than once get a suffix, as scanpy does it; ``var["gene_ids"]`` keeps the Ensembl ids.
    """
    if (folder / f"{stem}.h5").exists():
        return _read_h5(folder / f"{stem}.h5")
    if (folder / stem).is_dir():
        return _read_mex(folder / stem)
    raise DataError(f"no matrix: neither {stem}.h5 nor {stem}/", where=folder, todo="give the whole outs/ folder")


def _read_h5(path: Path) -> Any:
    import h5py
    from scipy.sparse import csr_matrix

    try:
        with h5py.File(path) as file:
            if "matrix" not in file:
                raise DataError("no group 'matrix'", where=path, todo="give a Cell Ranger 3+ feature-barcode matrix")
            matrix = file["matrix"]
            missing = [field for field in _H5_FIELDS if field not in matrix]
            if missing:
                raise DataError(f"no field 'matrix/{missing[0]}'", where=path)
            n_features, n_barcodes = (int(n) for n in matrix["shape"][:])
            x = csr_matrix(
                (matrix["data"][:].astype(np.float32), matrix["indices"][:], matrix["indptr"][:]),
                shape=(n_barcodes, n_features),
            )
            text = {name: _text(matrix[name][:]) for name in ("barcodes", "features/id", "features/name")}
            kinds = matrix.get("features/feature_type")
            kinds = _text(kinds[:]) if kinds is not None else [GENES] * n_features
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(
            f"the HDF5 file is cut off or damaged: {error}", where=path, todo="copy or download it again"
        ) from error
    return _assemble(x, text["barcodes"], text["features/id"], text["features/name"], kinds)


def _read_mex(folder: Path) -> Any:
    from scipy.io import mmread
    from scipy.sparse import csr_matrix

    def find(*names: str) -> Path:
        found = [f for name in names for suffix in (".gz", "") if (f := folder / f"{name}{suffix}").exists()]
        if not found:
            raise DataError(f"no {names[0]}.gz", where=folder, todo="expected matrix.mtx, features.tsv, barcodes.tsv")
        return found[0]

    file = find("matrix.mtx")
    features_file = find("features.tsv", "genes.tsv")
    features = read_table(features_file, sep="\t", header=None, dtype=str)
    barcodes = [line.strip() for line in _lines(find("barcodes.tsv"))]
    try:
        x = csr_matrix(mmread(file).T, dtype=np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"not a readable matrix: {error}", where=file, todo="copy it again") from error
    if x.shape != (len(barcodes), len(features)):
        raise DataError(
            f"the matrix is {x.shape[1]} x {x.shape[0]}, but there are {len(features)} features and"
            f" {len(barcodes)} barcodes",
            where=folder,
        )
    kinds = list(features[2]) if features.shape[1] > 2 else [GENES] * len(features)
    return _assemble(x, barcodes, list(features[0]), list(features[1]), kinds)


def _assemble(x: Any, barcodes: list[str], ids: list[str], symbols: list[str], kinds: list[str]) -> Any:
    from anndata import AnnData
    from anndata.utils import make_index_unique
    from pandas import Index

    wanted = np.flatnonzero([kind == GENES for kind in kinds])
    adata = AnnData(x[:, wanted])
    adata.obs_names = barcodes
    adata.var_names = make_index_unique(Index([symbols[i] for i in wanted]))
    adata.var["gene_ids"] = [ids[i] for i in wanted]
    return adata


def _text(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _lines(path: Path) -> list[str]:
    import gzip

    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return [str(line) for line in file]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"not a readable text file: {error}", where=path) from error
