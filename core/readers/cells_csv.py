"""One CSV of cells (or spots) x genes with their positions in columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.interfaces import Reader
from stzoo.core.readers.tables import counts_matrix, is_file, read_table
from stzoo.core.section import Section

_UM, _UNITS = ("x_centroid", "y_centroid"), ("aligned_x", "aligned_y")
_ABOUT_CELLS = {"cell_id", "barcode", "area", "cell_area", "nucleus_area", "n_counts", "total_counts", *_UM, *_UNITS}
_CONTROLS = ("NegControl", "antisense_", "BLANK_", "UnassignedCodeword", "DeprecatedCodeword")


class CellsCsvReader(Reader):
    """Reads ``x_centroid``/``y_centroid`` as micrometres, ``aligned_x``/``aligned_y`` as pixels (give ``mpp=``)."""

    format = "cells-csv"

    def recognises(self, path: Path) -> bool:
        """Look for a CSV file, or a folder that holds some beside no file of coordinates."""
        if path.is_dir():
            return bool(self.sections(path)) and not any(path.glob("*_coor.csv"))
        return is_file(path, ".csv", ".csv.gz")

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the files."""
        files = [path] if path.is_file() else [p for p in path.iterdir() if is_file(p, ".csv", ".csv.gz")]
        return sorted(_stem(p) for p in files if p.name not in ("cells.csv", "cells.csv.gz") or path.is_file())

    def read(self, path: Path, section: str) -> Section:
        """Read cells; every numeric column that is not about the cell is a gene, control probes are left out."""
        from anndata import AnnData

        file = path
        if path.is_dir():
            file = next(p for p in sorted(path.iterdir()) if is_file(p, ".csv", ".csv.gz") and _stem(p) == section)
        table = read_table(file, sep=",", index_col=0)
        columns = next((pair for pair in (_UM, _UNITS) if set(pair) <= set(table.columns)), None)
        if columns is None:
            found = ", ".join(str(c) for c in list(table.columns)[:8])
            raise DataError(
                f"no columns {_UM[0]} and {_UM[1]}", where=file, todo=f"positions are needed; found {found}"
            )
        place = counts_matrix(table[list(columns)], file).toarray().astype(np.float64)
        name = next((c for c in ("barcode", "cell_id") if c in table.columns), None)
        genes = [c for c in table.columns if c not in _ABOUT_CELLS and not str(c).startswith(_CONTROLS)]
        adata = AnnData(counts_matrix(table[genes], file))
        adata.obs_names = [str(v) for v in (table.index if name is None else table[name])]
        adata.var_names = [str(gene) for gene in genes]
        adata.obsm["spatial_um" if columns == _UM else "spatial"] = place
        return Section(adata, section)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")
