"""Spatial Transcriptomics folders as her2st has them: counts/, spots/ and, where there are, images/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.image import Slide
from stzoo.core.interfaces import Reader
from stzoo.core.readers.tables import counts_matrix, lattice_mpp, need_columns, read_table
from stzoo.core.section import Section

PITCH_UM, SPOT_UM = 200.0, 100.0
"""Array pitch and spot diameter of Spatial Transcriptomics (Stahl et al. 2016)."""

_COUNTS = (".tsv.gz", ".tsv")
_IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


class LegacyStReader(Reader):
    """Reads ``counts/NAME.tsv.gz`` (rows ``XxY``) with ``spots/NAME_selection.tsv`` and ``images/NAME.jpg``."""

    format = "legacy-st"

    def recognises(self, path: Path) -> bool:
        """Look for a folder with counts/ and spots/."""
        return (path / "counts").is_dir() and (path / "spots").is_dir()

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the count files."""
        return sorted(_stem(p.name) for p in (path / "counts").iterdir() if p.name.endswith(_COUNTS))

    def read(self, path: Path, section: str) -> Section:
        """Read counts and the spots under tissue; µm/px is fitted to the 200 µm pitch."""
        from anndata import AnnData

        file = next(f for s in _COUNTS if (f := path / "counts" / f"{section}{s}").exists())
        table = read_table(file, sep="\t", index_col=0)
        place = path / "spots" / f"{section}_selection.tsv"
        spots = read_table(place, sep="\t")
        need_columns(spots, ("x", "y", "pixel_x", "pixel_y"), place)
        spots.index = [f"{x}x{y}" for x, y in zip(spots["x"], spots["y"], strict=True)]
        if spots.index.has_duplicates:
            twice = spots.index[spots.index.duplicated()][0]
            raise DataError(f"spot '{twice}' stands more than once", where=place, todo="keep one row a spot")
        if "selected" in spots:
            spots = spots[spots["selected"] == 1]
        both = [spot for spot in table.index if spot in spots.index]
        if not both:
            raise DataError(
                f"none of the {len(table)} spots with counts (e.g. '{table.index[0] if len(table) else '?'}') is among"
                f" the {len(spots)} spots under tissue (e.g. '{spots.index[0] if len(spots) else '?'}')",
                where=f"{file} and {place}",
                todo="check that both files belong to one section",
            )
        table, spots = table.loc[both], spots.loc[both]
        adata = AnnData(counts_matrix(table, file), obs={}, var={})
        adata.obs_names, adata.var_names = both, [str(gene) for gene in table.columns]
        adata.obs["array_row"], adata.obs["array_col"] = spots["y"].to_numpy(), spots["x"].to_numpy()
        pixels = spots[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
        adata.obsm["spatial"] = pixels
        exact = ("new_x", "new_y") if {"new_x", "new_y"} <= set(spots.columns) else ("x", "y")
        mpp = lattice_mpp(pixels, spots[list(exact)].to_numpy(dtype=np.float64) * PITCH_UM, place)
        image = next((f for s in _IMAGES if (f := path / "images" / f"{section}{s}").exists()), None)
        slide = None if image is None else Slide.open(image, mpp=mpp)
        return Section(adata, section, slide, mpp, SPOT_UM, PITCH_UM)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".tsv")
