"""Visium and Visium HD as Space Ranger writes them (``outs/``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo import DataError, Reader, Section
from stzoo.core.data.notes import note, with_places
from stzoo.core.slides import Slide
from stzoo.plugins.readers.tables import (
    image_beside,
    json_number,
    lattice_mpp,
    need_columns,
    numbers,
    read_json,
    read_parquet,
    read_table,
    require_unique,
)
from stzoo.plugins.readers.tenx import find_matrix, read_matrix

PITCH_UM, SPOT_UM = 100.0, 55.0
"""Centre-to-centre distance and diameter of Visium spots (10x Genomics documentation)."""

_STATED_SPOT_UM = (55.0, 65.0)
_AGREE = 0.05
_MATRIX = "filtered_feature_bc_matrix"
_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
_POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
_SCALE = "scalefactors_json.json"


class SpaceRangerReader(Reader):
    """Reads Visium (``spatial/`` beside the matrix) and every bin size of Visium HD (``binned_outputs/``)."""

    format = "spaceranger"

    def recognises(self, path: Path) -> bool:
        """Look for a folder (or its ``outs/``) with spatial/ that holds positions, or with binned_outputs/."""
        root = _outs(path)
        return (root / "binned_outputs").is_dir() or _is_sample(root)

    def sections(self, path: Path) -> Sequence[str]:
        """Return the name of the sample, or of each bin size."""
        root = _outs(path)
        if (root / "binned_outputs").is_dir():
            return sorted(p.name for p in (root / "binned_outputs").iterdir() if _is_sample(p))
        named = path.resolve()
        return [named.parent.name if named.name == "outs" else named.name]

    def read(self, path: Path, section: str) -> Section:
        """Read spots under tissue; the slide is the reduced image (give the full one with ``image=``)."""
        root = _outs(path)
        root = root / "binned_outputs" / section if (root / "binned_outputs").is_dir() else root
        matrix = find_matrix(root, _MATRIX)
        if matrix is None:
            raise DataError(f"neither {_MATRIX}.h5 nor {_MATRIX}/", where=root, todo="give the whole outs/ folder")
        places, file = _positions(root / "spatial")
        adata, places = with_places(read_matrix(matrix), places, matrix, file)
        cells = ("in_tissue", "array_row", "array_col")
        adata.obs[list(cells)] = np.rint(numbers(places, cells, file)).astype(int)
        adata.obsm["spatial"] = numbers(places, ("pxl_col_in_fullres", "pxl_row_in_fullres"), file)
        scale_file = root / "spatial" / _SCALE
        scale = read_json(scale_file)
        if "bin_size_um" in scale:  # Visium HD
            pitch = spot = json_number(scale, "bin_size_um", scale_file)
            mpp = json_number(scale, "microns_per_pixel", scale_file)
        else:
            pitch, spot = PITCH_UM, SPOT_UM
            mpp = _visium_mpp(adata, scale, file, scale_file)
        return Section(adata, section, _slide(root / "spatial", scale, mpp), mpp, spot, pitch)


def visium_lattice(row: Any, column: Any) -> Any:
    """Return places on Visium's hexagonal lattice in micrometres, float64 (n, 2), x then y.

    ``array_col`` counts half pitches (50 µm), rows are 100 µm x sin 60° apart (10x Genomics documentation).
    """
    return np.column_stack([np.asarray(column) * PITCH_UM / 2, np.asarray(row) * PITCH_UM * np.sqrt(3) / 2])


def _visium_mpp(adata: Any, scale: dict[str, Any], file: Path, scale_file: Path) -> float:
    # The lattice decides. spot_diameter_fullres spans 55 µm in some versions and 65 µm in others (10x's documents
    # say either), which alone would be an error of 18 %; the pitch is etched into the glass.
    diameter = json_number(scale, "spot_diameter_fullres", scale_file)
    lattice = visium_lattice(adata.obs["array_row"], adata.obs["array_col"])
    fitted = lattice_mpp(adata.obsm["spatial"], lattice, file)
    stated = [um / diameter for um in _STATED_SPOT_UM]
    if fitted is None:
        note(adata, f"too few spots to fit the pitch: µm/px {stated[0]:.4g} is 55 µm / spot_diameter_fullres")
        return stated[0]
    if all(abs(value / fitted - 1) > _AGREE for value in stated):
        note(adata, f"µm/px is {fitted:.4g} by the 100 µm pitch but {stated[0]:.4g} by spot_diameter_fullres (55 µm)")
    return fitted


def _positions(folder: Path) -> tuple[Any, Path]:
    file = next((f for name in _POSITIONS if (f := folder / name).exists()), folder / _POSITIONS[1])
    if file.suffix == ".parquet":
        table = read_parquet(file)
    elif file.name == "tissue_positions_list.csv":
        table = read_table(file, sep=",", header=False)
        if table.shape[1] != len(_COLUMNS):
            raise DataError(
                f"{table.shape[1]} columns, expected {len(_COLUMNS)}",
                where=file,
                todo=f"expected, without a header: {', '.join(_COLUMNS)}",
            )
        table.columns = list(_COLUMNS)
    else:
        table = read_table(file, sep=",")
    need_columns(table, _COLUMNS, file)
    table = table.set_index("barcode")
    require_unique(table.index, "barcode", file)
    return table[numbers(table, ("in_tissue",), file)[:, 0] == 1], file


def _slide(folder: Path, scale: dict[str, Any], mpp: float) -> Slide | None:
    for name in ("hires", "lowres"):
        file = image_beside(folder, f"tissue_{name}_image")
        if file is not None:
            return Slide.open(file, mpp=mpp, scale=json_number(scale, f"tissue_{name}_scalef", folder / _SCALE))
    return None


def _outs(path: Path) -> Path:
    return (
        path / "outs" if (path / "outs" / "spatial").is_dir() or (path / "outs" / "binned_outputs").is_dir() else path
    )


def _is_sample(root: Path) -> bool:
    spatial = root / "spatial"
    has_places = any((spatial / name).exists() for name in (*_POSITIONS, _SCALE))
    return has_places or (spatial.is_dir() and find_matrix(root, _MATRIX) is not None)
