"""Visium and Visium HD as Space Ranger writes them (``outs/``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.image import Slide
from stzoo.core.interfaces import Reader
from stzoo.core.readers.tables import lattice_mpp, need_columns, read_json, read_parquet, read_table
from stzoo.core.readers.tenx import read_matrix
from stzoo.core.section import Section

PITCH_UM, SPOT_UM = 100.0, 55.0
"""Centre-to-centre distance and diameter of Visium spots (10x Genomics documentation)."""

_MATRIX = "filtered_feature_bc_matrix"
_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
_POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")


class SpaceRangerReader(Reader):
    """Reads Visium (``spatial/`` beside the matrix) and every bin size of Visium HD (``binned_outputs/``)."""

    format = "spaceranger"

    def recognises(self, path: Path) -> bool:
        """Look for a folder (or its ``outs/``) with spatial/ and a matrix, or with binned_outputs/."""
        root = _outs(path)
        return (root / "binned_outputs").is_dir() or _is_sample(root)

    def sections(self, path: Path) -> Sequence[str]:
        """Return the name of the sample, or of each bin size."""
        root = _outs(path)
        if (root / "binned_outputs").is_dir():
            return sorted(p.name for p in (root / "binned_outputs").iterdir() if _is_sample(p))
        return [path.resolve().name if root == path and path.name != "outs" else path.resolve().parent.name]

    def read(self, path: Path, section: str) -> Section:
        """Read spots under tissue; the slide is the reduced image (give the full one with ``image=``)."""
        root = _outs(path)
        root = root / "binned_outputs" / section if (root / "binned_outputs").is_dir() else root
        adata = read_matrix(root, _MATRIX)
        places, file = _positions(root / "spatial")
        places = places[places["in_tissue"].astype(int) == 1]
        both = adata.obs_names[adata.obs_names.isin(places.index)]
        if len(both) == 0:
            raise DataError(
                f"none of the {adata.n_obs} barcodes with counts is among the {len(places)} spots under tissue",
                where=f"{root / _MATRIX} and {file}",
                todo="check that both files belong to one sample",
            )
        adata, places = adata[both].copy(), places.loc[both]
        for column in ("in_tissue", "array_row", "array_col"):
            adata.obs[column] = places[column].to_numpy().astype(int)
        pixels = places[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(dtype=np.float64)
        adata.obsm["spatial"] = pixels
        scale = read_json(root / "spatial" / "scalefactors_json.json")
        if "bin_size_um" in scale:
            size = float(scale["bin_size_um"])
            pitch, spot = size, size
            mpp: float | None = float(scale["microns_per_pixel"])
        else:
            mpp, pitch, spot = _visium_mpp(adata.obs, pixels, file), PITCH_UM, SPOT_UM
        return Section(adata, section, _slide(root / "spatial", scale, mpp), mpp, spot, pitch)


def visium_lattice(row: Any, column: Any) -> Any:
    """Return places on Visium's hexagonal lattice in micrometres, float64 (n, 2), x then y.

    ``array_col`` counts half pitches (50 µm), rows are 100 µm x sin 60° apart (10x Genomics documentation).
    """
    return np.column_stack([np.asarray(column) * PITCH_UM / 2, np.asarray(row) * PITCH_UM * np.sqrt(3) / 2])


def _visium_mpp(obs: Any, pixels: Any, file: Path) -> float | None:
    # The pitch is used, not spot_diameter_fullres: that one is 55 or 65 µm depending on the version.
    return lattice_mpp(pixels, visium_lattice(obs["array_row"], obs["array_col"]), file)


def _positions(folder: Path) -> tuple[Any, Path]:
    file = next((f for name in _POSITIONS if (f := folder / name).exists()), folder / _POSITIONS[1])
    if file.suffix == ".parquet":
        table = read_parquet(file)
    elif file.name == "tissue_positions_list.csv":
        table = read_table(file, sep=",", header=None)
        if table.shape[1] != len(_COLUMNS):
            raise DataError(f"{table.shape[1]} columns, expected {len(_COLUMNS)}: {', '.join(_COLUMNS)}", where=file)
        table.columns = list(_COLUMNS)
    else:
        table = read_table(file, sep=",")
    need_columns(table, _COLUMNS, file)
    table = table.set_index("barcode")
    if table.index.has_duplicates:
        raise DataError(f"barcode '{table.index[table.index.duplicated()][0]}' stands more than once", where=file)
    return table, file


def _slide(folder: Path, scale: dict[str, Any], mpp: float | None) -> Slide | None:
    for name in ("hires", "lowres"):
        file = next((f for s in (".png", ".jpg", ".tiff") if (f := folder / f"tissue_{name}_image{s}").exists()), None)
        if file is not None:
            key = f"tissue_{name}_scalef"
            if not isinstance(scale.get(key), int | float):
                raise DataError(f"no number '{key}'", where=folder / "scalefactors_json.json")
            return Slide.open(file, mpp=mpp, scale=float(scale[key]))
    return None


def _outs(path: Path) -> Path:
    return path / "outs" if (path / "outs").is_dir() else path


def _is_sample(root: Path) -> bool:
    has_matrix = (root / f"{_MATRIX}.h5").exists() or (root / _MATRIX).is_dir()
    return has_matrix and (root / "spatial").is_dir()
