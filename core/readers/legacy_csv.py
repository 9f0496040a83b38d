"""Spatial Transcriptomics as pairs of files: NAME.csv.gz (spots x genes) and NAME_coor.csv (array coordinates)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.interfaces import Reader
from stzoo.core.readers.legacy_st import PITCH_UM, SPOT_UM
from stzoo.core.readers.tables import counts_matrix, read_table
from stzoo.core.section import Section

_COUNTS = (".csv.gz", ".csv")


class LegacyCsvReader(Reader):
    """Reads the layout of the PASTE tutorial: array coordinates without header, one unit = 200 µm, no image."""

    format = "legacy-st-csv"

    def recognises(self, path: Path) -> bool:
        """Look for a folder with NAME_coor.csv files."""
        return path.is_dir() and any(path.glob("*_coor.csv"))

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names that have a file of coordinates."""
        return sorted(p.name.removesuffix("_coor.csv") for p in path.glob("*_coor.csv"))

    def read(self, path: Path, section: str) -> Section:
        """Read counts and coordinates, which are in the same order."""
        from anndata import AnnData

        file = next((f for s in _COUNTS if (f := path / f"{section}{s}").exists()), path / f"{section}.csv.gz")
        table = read_table(file, sep=",", index_col=0)
        place = path / f"{section}_coor.csv"
        coordinates = read_table(place, sep=",", header=None)
        if len(coordinates) != len(table):
            raise DataError(
                f"{len(table)} spots with counts but {len(coordinates)} rows of coordinates",
                where=f"{file} and {place}",
                todo="check that both files belong to one section",
            )
        lattice = counts_matrix(coordinates.iloc[:, :2], place).toarray().astype(np.float64)
        adata = AnnData(counts_matrix(table, file), obs={}, var={})
        adata.obs_names, adata.var_names = [str(s) for s in table.index], [str(g) for g in table.columns]
        adata.obs["array_row"] = np.rint(lattice[:, 1]).astype(int)
        adata.obs["array_col"] = np.rint(lattice[:, 0]).astype(int)
        adata.obsm["spatial_um"] = lattice * PITCH_UM
        return Section(adata, section, None, None, SPOT_UM, PITCH_UM)
