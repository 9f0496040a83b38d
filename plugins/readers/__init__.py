"""The readers that ship with stzoo, one file a format (this module is import-light)."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ReaderSpec, hookimpl

_READERS = (
    ("legacy-st", "legacy_st:LegacyStReader", "folder with counts/NAME.tsv.gz and spots/NAME_selection.tsv"),
    ("legacy-st-csv", "legacy_csv:LegacyCsvReader", "folder with NAME.csv.gz and NAME_coor.csv"),
    ("spaceranger", "spaceranger:SpaceRangerReader", "10x Visium or Visium HD outs/"),
    ("xenium", "xenium:XeniumReader", "10x Xenium outs/ (cells.parquet or cells.csv.gz)"),
    ("cells-csv", "cells_csv:CellsCsvReader", "CSV of cells x genes with x_centroid, y_centroid"),
    ("h5ad", "h5ad:H5adReader", "AnnData .h5ad, or a folder of them, in the squidpy convention"),
    ("anndata-zarr", "anndata_zarr:AnndataZarrReader", "AnnData zarr, stzoo's own included"),
    ("spatialdata", "spatialdata:SpatialDataReader", "SpatialData zarr (needs the extra 'spatialdata')"),
)


@hookimpl
def stzoo_readers() -> Iterable[ReaderSpec]:
    """Offer every shipped reader."""
    return [ReaderSpec(name, f"stzoo.plugins.readers.{target}", summary) for name, target, summary in _READERS]
