"""Spatial Transcriptomics as pairs of files: NAME.csv.gz (spots x genes) and NAME_coor.csv (array coordinates)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo import DataError, Reader, Section
from stzoo.core.data.notes import make_adata
from stzoo.plugins.readers.legacy_st import PITCH_UM, SPOT_UM
from stzoo.plugins.readers.tables import numbers, read_table
from stzoo.plugins.readers.text_counts import read_counts

_COUNTS = (".csv.gz", ".csv")
_PLACES = "_coor.csv"


class LegacyCsvReader(Reader):
    """Reads the layout of the PASTE tutorial: array coordinates without header, one unit = 200 µm, no image."""

    format = "legacy-st-csv"

    def recognises(self, path: Path) -> bool:
        """Look for a folder with NAME_coor.csv files."""
        return path.is_dir() and any(path.glob(f"*{_PLACES}"))

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names that have a file of coordinates."""
        return sorted(file.name.removesuffix(_PLACES) for file in path.glob(f"*{_PLACES}"))

    def read(self, path: Path, section: str) -> Section:
        """Read counts and coordinates, which are in the same order."""
        file = next((f for s in _COUNTS if (f := path / f"{section}{s}").exists()), path / f"{section}{_COUNTS[0]}")
        table = read_counts(file, sep=",")
        place = path / f"{section}{_PLACES}"
        coordinates = read_table(place, sep=",", header=False)
        if len(coordinates) != len(table.names):
            raise DataError(
                f"{len(table.names)} spots with counts but {len(coordinates)} rows of coordinates",
                where=f"{file} and {place}",
                todo="check that both files belong to one section",
            )
        lattice = numbers(coordinates, (0, 1), place)
        adata = make_adata(table.x, table.names, table.genes)
        adata.obs["array_row"] = np.rint(lattice[:, 1]).astype(int)
        adata.obs["array_col"] = np.rint(lattice[:, 0]).astype(int)
        adata.obsm["spatial_um"] = lattice * PITCH_UM
        return Section(adata, section, None, None, SPOT_UM, PITCH_UM)
