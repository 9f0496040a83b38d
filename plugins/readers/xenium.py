"""Xenium as the instrument writes it: cells with a cell-feature matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stzoo import DataError, Reader, Section
from stzoo.core.data.notes import with_places
from stzoo.plugins.readers.tables import need_columns, numbers, read_parquet, read_table, require_unique
from stzoo.plugins.readers.tenx import find_matrix, read_matrix

_CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv")
_MATRIX = "cell_feature_matrix"


class XeniumReader(Reader):
    """Reads cells (``bin_um=`` sums them into bins); positions are micrometres, there is no H&E slide."""

    format = "xenium"

    def recognises(self, path: Path) -> bool:
        """Look for a folder with cells.parquet or cells.csv.gz, and cell_feature_matrix or experiment.xenium."""
        has_cells = any((path / name).is_file() for name in _CELLS)
        has_matrix = (path / f"{_MATRIX}.h5").exists() or (path / _MATRIX).is_dir()
        return (has_cells and has_matrix) or ((path / "experiment.xenium").is_file() and (has_cells or has_matrix))

    def sections(self, path: Path) -> Sequence[str]:
        """Return the name of the folder."""
        named = path.resolve()
        return [named.parent.name if named.name == "outs" else named.name]

    def read(self, path: Path, section: str) -> Section:
        """Read every cell that has both a place and counts."""
        file = next((f for name in _CELLS if (f := path / name).exists()), path / _CELLS[0])
        matrix = find_matrix(path, _MATRIX)
        if matrix is None:
            raise DataError(f"neither {_MATRIX}.h5 nor {_MATRIX}/", where=path, todo="give the whole output folder")
        cells = read_parquet(file) if file.suffix == ".parquet" else read_table(file, sep=",")
        need_columns(cells, ("cell_id", "x_centroid", "y_centroid"), file)
        cells.index = [c.decode() if isinstance(c, bytes) else str(c) for c in cells["cell_id"]]
        require_unique(cells.index, "cell", file)
        adata, cells = with_places(read_matrix(matrix), cells, matrix, file)
        adata.obsm["spatial_um"] = numbers(cells, ("x_centroid", "y_centroid"), file)
        for column in ("cell_area", "nucleus_area"):
            if column in cells:
                adata.obs[column] = cells[column].to_numpy(dtype=float)
        return Section(adata, section)
