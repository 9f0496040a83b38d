"""Xenium as the instrument writes it: cells with a cell-feature matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.interfaces import Reader
from stzoo.core.readers.tables import need_columns, read_parquet, read_table
from stzoo.core.readers.tenx import read_matrix
from stzoo.core.section import Section

_CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv")


class XeniumReader(Reader):
    """Reads cells (``bin_um=`` sums them into bins); positions are micrometres, there is no H&E slide."""

    format = "xenium"

    def recognises(self, path: Path) -> bool:
        """Look for a folder with cells.parquet or cells.csv.gz and cell_feature_matrix."""
        has_cells = any((path / name).is_file() for name in _CELLS)
        return has_cells and ((path / "cell_feature_matrix.h5").exists() or (path / "cell_feature_matrix").is_dir())

    def sections(self, path: Path) -> Sequence[str]:
        """Return the name of the folder."""
        return [path.resolve().name]

    def read(self, path: Path, section: str) -> Section:
        """Read every cell that has both a place and counts."""
        file = next(f for name in _CELLS if (f := path / name).exists())
        cells = read_parquet(file) if file.suffix == ".parquet" else read_table(file, sep=",")
        need_columns(cells, ("cell_id", "x_centroid", "y_centroid"), file)
        cells.index = [c.decode() if isinstance(c, bytes) else str(c) for c in cells["cell_id"]]
        adata = read_matrix(path, "cell_feature_matrix")
        both = adata.obs_names[adata.obs_names.isin(cells.index)]
        if len(both) == 0:
            raise DataError(
                f"none of the {adata.n_obs} cells of the matrix is among the {len(cells)} cells of {file.name}",
                where=path,
                todo="check that both files belong to one run",
            )
        adata, cells = adata[both].copy(), cells.loc[both]
        adata.obsm["spatial_um"] = cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64)
        for column in ("cell_area", "nucleus_area"):
            if column in cells:
                adata.obs[column] = cells[column].to_numpy(dtype=np.float64)
        return Section(adata, section)
