"""Spatial Transcriptomics folders as her2st has them: counts/, spots/ and, where there are, images/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo import Reader, Section
from stzoo.core.data.notes import make_adata, with_places
from stzoo.core.slides import Slide
from stzoo.plugins.readers.tables import image_beside, lattice_mpp, need_columns, numbers, read_table, require_unique
from stzoo.plugins.readers.text_counts import read_counts

HER2ST = re.compile(r"([A-H])\d")
"""her2st (Andersson et al. 2021) names a section by the letter of its patient and a number."""

PITCH_UM, SPOT_UM = 200.0, 100.0
"""Array pitch and spot diameter of Spatial Transcriptomics (Stahl et al. 2016, doi:10.1126/science.aaf2403)."""

_COUNTS = (".tsv.gz", ".tsv")


class LegacyStReader(Reader):
    """Reads ``counts/NAME.tsv.gz`` (rows ``XxY``) with ``spots/NAME_selection.tsv`` and ``images/NAME.jpg``."""

    format = "legacy-st"

    def recognises(self, path: Path) -> bool:
        """Look for a folder with counts/ and spots/."""
        return (path / "counts").is_dir() and (path / "spots").is_dir()

    def sections(self, path: Path) -> Sequence[str]:
        """Return the names of the count files."""
        return sorted(_stem(file.name) for file in (path / "counts").iterdir() if file.name.endswith(_COUNTS))

    def read(self, path: Path, section: str) -> Section:
        """Read counts and the spots under tissue; µm/px is fitted to the 200 µm pitch."""
        file = next(f for suffix in _COUNTS if (f := path / "counts" / f"{section}{suffix}").exists())
        table = read_counts(file, sep="\t")
        place = path / "spots" / f"{section}_selection.tsv"
        spots = read_table(place, sep="\t")
        need_columns(spots, ("x", "y", "pixel_x", "pixel_y"), place)
        lattice = np.rint(numbers(spots, ("x", "y"), place)).astype(int)
        spots.index = [f"{x}x{y}" for x, y in lattice]
        require_unique(spots.index, "spot", place)
        spots[["x", "y"]] = lattice
        if "selected" in spots:
            spots = spots[spots["selected"] == 1]
        adata, spots = with_places(make_adata(table.x, table.names, table.genes), spots, file, place)
        adata.obs["array_row"], adata.obs["array_col"] = spots["y"].to_numpy(), spots["x"].to_numpy()
        adata.obsm["spatial"] = numbers(spots, ("pixel_x", "pixel_y"), place)
        if "her2st" in path.resolve().name and (named := HER2ST.fullmatch(section)):
            adata.uns["patient"] = named[1]
        exact = ("new_x", "new_y") if {"new_x", "new_y"} <= set(spots.columns) else ("x", "y")
        mpp = lattice_mpp(adata.obsm["spatial"], numbers(spots, exact, place) * PITCH_UM, place)
        image = image_beside(path / "images", section)
        slide = None if image is None else Slide.open(image, mpp=mpp)
        return Section(adata, section, slide, mpp, SPOT_UM, PITCH_UM)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".tsv")
