"""One CSV of cells (or spots) x genes with their positions in columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo import DataError, Reader, Section
from stzoo.core.data.notes import list_names, make_adata
from stzoo.plugins.readers.tables import is_file
from stzoo.plugins.readers.text_counts import column_names, read_counts

_UM, _UNITS = ("x_centroid", "y_centroid"), ("aligned_x", "aligned_y")
_NAMES = ("barcode", "cell_id")
_SIZES = ("area", "cell_area", "nucleus_area", "n_counts", "total_counts", "transcript_counts")
_QUALITY = (
    "control_probe_counts",
    "control_codeword_counts",
    "genomic_control_counts",
    "unassigned_codeword_counts",
    "deprecated_codeword_counts",
    "nucleus_count",
    "segmentation_method",
)
_ABOUT = {*_NAMES, *_SIZES, *_QUALITY, *_UM, *_UNITS}
_SUFFIXES = (".csv", ".csv.gz")

CONTROLS = ("NegControl", "antisense_", "BLANK_", "UnassignedCodeword", "DeprecatedCodeword", "Intergenic_Region")
"""How the names of Xenium's control features begin (10x Genomics documentation, "Xenium output files")."""


class CellsCsvReader(Reader):
    """Reads ``x_centroid``/``y_centroid`` as micrometres, ``aligned_x``/``aligned_y`` as pixels (give ``mpp=``)."""

    format = "cells-csv"

    def recognises(self, path: Path) -> bool:
        """Look for a CSV file, or a folder that holds some with columns of positions."""
        return is_file(path, *_SUFFIXES) or (path.is_dir() and bool(_files(path)))

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the files."""
        return [_stem(path)] if path.is_file() else sorted(_files(path))

    def read(self, path: Path, section: str) -> Section:
        """Read cells; every column that is not about the cell is a gene, control probes are left out."""
        file = path if path.is_file() else _files(path)[section]
        header = column_names(file, sep=",")
        columns = next((pair for pair in (_UM, _UNITS) if set(pair) <= set(header[1:])), None)
        if columns is None:
            raise DataError(
                f"no columns {_UM[0]} and {_UM[1]} (µm) after a first column that names the cells",
                where=f"{file}, row 1",
                todo=f"give every cell a name and its position; found {list_names(header, 8)}",
            )
        controls = [name for name in header if name.startswith(CONTROLS)]
        table = read_counts(file, sep=",", is_gene=lambda name: name not in _ABOUT and not name.startswith(CONTROLS))
        if not table.genes:
            raise DataError("no column holds counts of a gene", where=file, todo="give the table of cells x genes")
        name = next((column for column in _NAMES if column in table.about), None)
        notes = [f"control features left out: {len(controls)} ({list_names(controls)})"] if controls else []
        adata = make_adata(table.x, table.names if name is None else table.about[name], table.genes, notes)
        place = np.column_stack([table.numbers(column, file) for column in columns])
        adata.obsm["spatial_um" if columns == _UM else "spatial"] = place
        for column in _SIZES:
            if column in table.about:
                adata.obs[column] = table.numbers(column, file)
        return Section(adata, section)


def _files(folder: Path) -> dict[str, Path]:
    return {_stem(file): file for file in sorted(folder.iterdir()) if is_file(file, *_SUFFIXES) and _has_places(file)}


def _has_places(file: Path) -> bool:
    try:
        header = column_names(file, sep=",")
    except DataError:
        return False
    return any(set(pair) <= set(header) for pair in (_UM, _UNITS)) and not set(header) <= {"", *_ABOUT}


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")
