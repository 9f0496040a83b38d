"""Broken inputs of every reader, as a table: ``CASES`` is a list of (name, builder), a builder makes the files in an
empty folder and returns the arguments of ``stzoo``; ``EXPECTED`` holds what the message has to say.

Outputs, where a command has one, go to ``FOLDER/out.*`` and must not be there afterwards.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import layouts
import numpy as np
import pandas as pd
from stzoo.core.io.read import read
from stzoo.core.io.write import write

Builder = Callable[[Path], list[str]]

CASES: list[tuple[str, Builder]] = []
EXPECTED: dict[str, tuple[str, ...]] = {}
"""Name of a case -> what its message says: the file or field, and what to do."""


def case(name: str, *says: str) -> Callable[[Builder], Builder]:
    """Enter a builder into the table."""

    def enter(builder: Builder) -> Builder:
        CASES.append((name, builder))
        EXPECTED[name] = says
        return builder

    return enter


def convert(tmp: Path, source: object, *options: str, suffix: str = "zarr") -> list[str]:
    """Return the arguments that convert a source."""
    return ["data", "convert", str(source), str(tmp / f"out.{suffix}"), *options]


def half(path: Path) -> None:
    """Cut a file in the middle."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_counts(tmp: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """Convert a her2st folder whose table of counts was changed."""
    folder = layouts.her2st(tmp / "set")
    file = folder / "counts" / "C5.tsv.gz"
    change(pd.read_csv(file, sep="\t", index_col=0)).to_csv(file, sep="\t")
    return convert(tmp, folder)


def edit_annotated(tmp: Path, change: Callable[[Any], None], *options: str) -> list[str]:
    """Convert a .h5ad file whose AnnData was changed."""
    adata = layouts.annotated()
    change(adata)
    adata.write_h5ad(tmp / "a.h5ad")
    return convert(tmp, tmp / "a.h5ad", *options)


# paths


@case("missing path", "no such file or folder", "did you mean 'her2st'?", "check the path")
def _(tmp: Path) -> list[str]:
    layouts.her2st(tmp / "her2st")
    return convert(tmp, tmp / "her2ts")


@case("path through a file", "no such file or folder", "a.csv/C5")
def _(tmp: Path) -> list[str]:
    layouts.cells_csv(tmp / "a.csv")
    return convert(tmp, tmp / "a.csv" / "C5")


@case("a loop of links", "can not read", "loop", "check the path")
def _(tmp: Path) -> list[str]:
    (tmp / "loop").symlink_to("loop")
    return convert(tmp, tmp / "loop")


@case("unknown format", "no reader recognises this", "holiday.docx", "legacy-st: folder with counts/")
def _(tmp: Path) -> list[str]:
    (tmp / "holiday.docx").write_bytes(b"PK\3\4")
    return convert(tmp, tmp / "holiday.docx")


@case("a part of a folder", "no reader recognises this", "part of a folder in the format 'legacy-st': give")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.her2st(tmp / "set") / "counts" / "C5.tsv.gz")


@case("the folder above", "no reader recognises this", "give a folder in it: her2st, visium")
def _(tmp: Path) -> list[str]:
    layouts.her2st(tmp / "all" / "her2st")
    layouts.visium(tmp / "all" / "visium")
    return convert(tmp, tmp / "all")


@case("unknown section", "no section 'c5'; did you mean 'C5'?", "set holds C5")
def _(tmp: Path) -> list[str]:
    return convert(tmp, f"{layouts.her2st(tmp / 'set')}::c5")


@case("no section named", "names no section", "PATH::SECTION")
def _(tmp: Path) -> list[str]:
    return convert(tmp, f"{layouts.her2st(tmp / 'set')}::")


@case("one of several sections", "holds 2 sections: square_008um, square_016um", "name one, e.g.")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.visium_hd(tmp / "hd"))


@case("two formats", "more than one reader recognises this: 'h5ad' and 'legacy-st'", "--format h5ad")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    layouts.h5ad(folder / "x.h5ad")
    return convert(tmp, folder)


@case("unknown reader", "no reader called 'legacyst'; did you mean 'legacy-st'?")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.her2st(tmp / "set"), "--format", "legacyst")


# text tables


@case("gzip cut off", "C5.tsv.gz", "cut off", "copy or download it again")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    half(folder / "counts" / "C5.tsv.gz")
    return convert(tmp, folder)


@case("no gzip in .gz", "C5.tsv.gz", "content is not gzip")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    (folder / "counts" / "C5.tsv.gz").write_text("\tA\n1x1\t2\n")
    return convert(tmp, folder)


@case("wrong delimiter", "C5.tsv.gz, row 1", "not tab-separated", "tabs between the fields")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    file = folder / "counts" / "C5.tsv.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"\t", b",")))
    return convert(tmp, folder)


@case("row cut off", "C5.tsv.gz, row 12", "fields, expected 6", "copy the file again")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    file = folder / "counts" / "C5.tsv.gz"
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)[:12]
    file.write_bytes(gzip.compress(b"".join(lines)[:-6]))
    return convert(tmp, folder)


@case("NaN counts", "1 counts are NaN or infinite, e.g. spot '3x4', gene 'G2'", "give raw counts")
def _(tmp: Path) -> list[str]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(float)
        table.loc["3x4", "G2"] = np.nan
        return table

    return edit_counts(tmp, change)


@case("negative counts", "counts are negative, e.g. spot '2x4', gene 'G0'", "set::C5")
def _(tmp: Path) -> list[str]:
    return edit_counts(tmp, lambda table: table - 100 * (table.columns == "G0"))


@case("words for counts", "column 'G3' holds 'many', expected a count", "C5.tsv.gz, row '2x3'")
def _(tmp: Path) -> list[str]:
    return edit_counts(tmp, lambda table: table.astype(object).assign(G3="many"))


@case("duplicate genes in a table", "gene 'G1'", "C5.tsv.gz, row 1", "one column")
def _(tmp: Path) -> list[str]:
    return edit_counts(tmp, lambda table: table.rename(columns={"G2": "G1"}))


@case("duplicate barcodes in a table", "1 barcodes stand more than once, e.g. '3x3'", "one row")
def _(tmp: Path) -> list[str]:
    return edit_counts(tmp, lambda table: pd.concat([table, table.loc[["3x3"]]]))


@case("no overlap of spots and counts", "none of the 25 spots with counts (e.g. '102x3')", "C5_selection.tsv")
def _(tmp: Path) -> list[str]:
    return edit_counts(tmp, lambda table: table.set_axis([f"10{name}" for name in table.index]))


@case("empty table", "the table is empty", "C5.tsv.gz")
def _(tmp: Path) -> list[str]:
    return edit_counts(tmp, lambda table: table.iloc[:0])


@case("no spots file", "no such file", "C5_selection.tsv", "folder is complete")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    (folder / "spots" / "C5_selection.tsv").unlink()
    return convert(tmp, folder)


@case("spots without pixels", "no column 'pixel_x'", "C5_selection.tsv", "found x, y, new_x")
def _(tmp: Path) -> list[str]:
    folder = layouts.her2st(tmp / "set")
    file = folder / "spots" / "C5_selection.tsv"
    pd.read_csv(file, sep="\t").drop(columns=["pixel_x"]).to_csv(file, sep="\t", index=False)
    return convert(tmp, folder)


@case("more coordinates than spots", "16 spots with counts but 15 rows of coordinates", "slice1_coor.csv")
def _(tmp: Path) -> list[str]:
    folder = layouts.paste(tmp / "p")
    file = folder / "slice1_coor.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    return convert(tmp, folder)


@case("binary garbage named .csv", "garbage.csv", "not a text file", "UTF-8")
def _(tmp: Path) -> list[str]:
    (tmp / "garbage.csv").write_bytes(b"\x93\xfe\xff," + bytes(range(128, 255)) * 9)
    return convert(tmp, tmp / "garbage.csv")


@case("cells without positions", "no columns x_centroid and y_centroid", "cells.csv, row 1", "found")
def _(tmp: Path) -> list[str]:
    (tmp / "cells.csv").write_text(",A,B\n1,2,3\n")
    return convert(tmp, tmp / "cells.csv")


@case("a cell without a place", "column 'x_centroid' holds ''", "row '2'")
def _(tmp: Path) -> list[str]:
    (tmp / "cells.csv").write_text(",x_centroid,y_centroid,A\n1,2.0,3.0,4\n2,,3.0,4\n")
    return convert(tmp, tmp / "cells.csv")


@case("bins without µm/px", "no µm/px", "roi.csv", "--mpp VALUE")
def _(tmp: Path) -> list[str]:
    (tmp / "roi.csv").write_text(",aligned_x,aligned_y,A\n1,2.0,3.0,4\n2,5.0,3.0,4\n")
    return convert(tmp, tmp / "roi.csv", "--bin-um", "50")


@case("impossible bins", "the bin size is -5.0 µm", "--bin-um 50")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.xenium(tmp / "run"), "--bin-um", "-5")


@case("impossible µm/px", "mpp is 0.0, expected a positive number")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.her2st(tmp / "set"), "--mpp", "0")


# 10x


@case("HDF5 cut off", "filtered_feature_bc_matrix.h5", "cut off or damaged", "download it again")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    half(outs / "filtered_feature_bc_matrix.h5")
    return convert(tmp, outs)


@case("HDF5 without barcodes", "filtered_feature_bc_matrix.h5", "no field 'matrix/barcodes'")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "r+") as file:
        del file["matrix/barcodes"]
    return convert(tmp, outs)


@case("no matrix", "neither filtered_feature_bc_matrix.h5 nor", "give the whole outs/ folder")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    return convert(tmp, outs)


@case("MEX cut off", "matrix.mtx.gz", "cut off or damaged", "download it again")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v", matrix="mtx")
    half(outs / "filtered_feature_bc_matrix" / "matrix.mtx.gz")
    return convert(tmp, outs)


@case("MEX of two runs", "the matrix has 7 features and 32 barcodes, but 7 features and 31 barcodes are named")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v", matrix="mtx")
    file = outs / "filtered_feature_bc_matrix" / "barcodes.tsv.gz"
    file.write_bytes(gzip.compress(b"".join(gzip.decompress(file.read_bytes()).splitlines(keepends=True)[:-1])))
    return convert(tmp, outs)


@case("no positions file", "no such file", "tissue_positions.csv", "folder is complete")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    (outs / "spatial" / "tissue_positions.csv").unlink()
    return convert(tmp, outs)


@case("old positions under the new name", "no column 'barcode'", "tissue_positions.csv", "expected barcode, in_tissue")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v", positions="old")
    (outs / "spatial" / "tissue_positions_list.csv").rename(outs / "spatial" / "tissue_positions.csv")
    return convert(tmp, outs)


@case("duplicate barcodes in positions", "barcodes stand more than once", "tissue_positions.csv", "keep one row")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    file = outs / "spatial" / "tissue_positions.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[-1]]))
    return convert(tmp, outs)


@case("barcodes of another sample", "none of the 32 spots with counts", "tissue_positions.csv", "belong to one section")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    file = outs / "spatial" / "tissue_positions.csv"
    file.write_text(file.read_text().replace("AAACAAGT", "TTTCAAGT"))
    return convert(tmp, outs)


@case("scale factors are no JSON", "scalefactors_json.json", "not readable as JSON", "line 1")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    half(outs / "spatial" / "scalefactors_json.json")
    return convert(tmp, outs)


@case("scale factor missing", "'tissue_hires_scalef' is missing", "scalefactors_json.json")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    edit_json(outs / "spatial" / "scalefactors_json.json", tissue_hires_scalef=None)
    return convert(tmp, outs)


@case("scale factor of zero", "'microns_per_pixel' is 0, expected a positive number", "scalefactors_json.json")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium_hd(tmp / "hd", sizes=(8,))
    edit_json(outs / "binned_outputs" / "square_008um" / "spatial" / "scalefactors_json.json", microns_per_pixel=0)
    return convert(tmp, outs)


@case("pixels of rows and columns mixed up", "µm/px in one direction", "tissue_positions.csv")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    file = outs / "spatial" / "tissue_positions.csv"
    table = pd.read_csv(file)
    table["pxl_col_in_fullres"] *= 3
    table.to_csv(file, index=False)
    return convert(tmp, outs)


@case("the reduced image for the full one", "of the spots lie outside the slide: it is 160 x 180 px", "--image FILE")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    return convert(tmp, outs, "--image", str(outs / "spatial" / "tissue_hires_image.png"))


@case("no such image", "no such image", "he.tif", "check the path")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.visium(tmp / "v"), "--image", str(tmp / "he.tif"))


@case("image cut off", "tissue_hires_image.png", "damaged", "download the file again")
def _(tmp: Path) -> list[str]:
    outs = layouts.visium(tmp / "v")
    half(outs / "spatial" / "tissue_hires_image.png")
    return convert(tmp, outs)


@case("parquet that is none", "cells.parquet", "not a readable parquet file", "download it again")
def _(tmp: Path) -> list[str]:
    folder = layouts.xenium(tmp / "run")
    (folder / "cells.parquet").write_bytes(b"PAR1 not at all")
    return convert(tmp, folder)


@case("cells of another run", "none of the 40 spots with counts", "cells.parquet", "belong to one section")
def _(tmp: Path) -> list[str]:
    folder = layouts.xenium(tmp / "run")
    table = pd.read_parquet(folder / "cells.parquet")
    table["cell_id"] = [f"x{name}" for name in table["cell_id"]]
    table.to_parquet(folder / "cells.parquet")
    return convert(tmp, folder)


@case("only control features", "no feature is 'Gene Expression'", "cell_feature_matrix.h5")
def _(tmp: Path) -> list[str]:
    folder = layouts.xenium(tmp / "run")
    with h5py.File(folder / "cell_feature_matrix.h5", "r+") as file:
        file["matrix/features/feature_type"][...] = b"Negative Control Probe"
    return convert(tmp, folder)


# AnnData


@case("h5ad cut off", "a.h5ad", "incomplete, damaged or none", "write it again")
def _(tmp: Path) -> list[str]:
    half(layouts.h5ad(tmp / "a.h5ad"))
    return convert(tmp, tmp / "a.h5ad")


@case("h5ad without positions", "there are no positions", "obsm has X_pca", "obsm['spatial']")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.obsm["X_pca"] = adata.obsm.pop("spatial")

    return edit_annotated(tmp, change)


@case("positions in three dimensions", "obsm['spatial'] has shape (24, 3)", "a.h5ad", "float (n, 2)")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.obsm["spatial"] = np.column_stack([adata.obsm["spatial"], np.zeros(24)])

    return edit_annotated(tmp, change)


@case("positions with NaN", "obsm['spatial'] has shape (24, 2)", "not finite", "remove spots without place")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.obsm["spatial"][5] = np.nan

    return edit_annotated(tmp, change)


@case("all spots at one place", "all 24 spots stand at one place", "obsm['spatial']", "its own position")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.obsm["spatial"][:] = 7.0

    return edit_annotated(tmp, change)


@case("array rows that are no numbers", "obs['array_row'] holds '0.5', expected whole numbers", "a.h5ad, spot")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.obs["array_row"] = adata.obs["array_row"] + 0.5

    return edit_annotated(tmp, change)


@case("duplicate genes", "1 genes stand more than once, e.g. 'ERBB2'", "a.h5ad", "one column")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.var_names = ["ERBB2", "ERBB2", "c", "d", "e", "f"]

    return edit_annotated(tmp, change)


@case("duplicate barcodes", "barcodes stand more than once", "a.h5ad", "one row")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.obs_names = ["AAC-1"] * 2 + [f"AAG-{i}" for i in range(22)]

    return edit_annotated(tmp, change)


@case("negative values", "1 counts are negative, e.g. spot 'AAACAAGTCAAAAAAA-1'", "a.h5ad", "raw counts")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.X[1, 0] = -3

    return edit_annotated(tmp, change)


@case("empty section", "the section is empty: 0 spots x 6 genes", "a.h5ad")
def _(tmp: Path) -> list[str]:
    layouts.annotated()[:0].copy().write_h5ad(tmp / "a.h5ad")
    return convert(tmp, tmp / "a.h5ad")


@case("no counts", "there are no counts: X is empty", "a.h5ad", "put raw counts into X")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.X = None

    return edit_annotated(tmp, change)


@case("impossible scale factor", "tissue_hires_scalef is -1.0, expected a positive number", "a.h5ad")
def _(tmp: Path) -> list[str]:
    def change(adata: Any) -> None:
        adata.uns["spatial"]["V1"]["scalefactors"]["tissue_hires_scalef"] = -1.0

    return edit_annotated(tmp, change)


@case("zarr without content", "a.zarr", "no zarr.json", "write it again")
def _(tmp: Path) -> list[str]:
    (tmp / "a.zarr").mkdir()
    return convert(tmp, tmp / "a.zarr", suffix="h5ad")


@case("zarr with chunks missing", "a.zarr/X/data", "1 of 1 chunks of X/data are missing", "write it again")
def _(tmp: Path) -> list[str]:
    layouts.annotated().write_zarr(tmp / "a.zarr")
    for file in (tmp / "a.zarr" / "X" / "data").iterdir():  # zarr v2: the chunks stand beside .zarray and .zattrs
        if not file.name.startswith(".z"):
            file.unlink()
    return convert(tmp, tmp / "a.zarr", suffix="h5ad")


@case("zarr with an array missing", "a.zarr/X/indptr", "is incomplete: 1 of 1 chunks of X/indptr", "write it again")
def _(tmp: Path) -> list[str]:
    layouts.annotated().write_zarr(tmp / "a.zarr")
    shutil.rmtree(tmp / "a.zarr" / "X" / "indptr")
    return convert(tmp, tmp / "a.zarr", suffix="h5ad")


@case("a slide with chunks missing", "slide/pyramid", "1 of 4 chunks of level 0", "convert the section again")
def _(tmp: Path) -> list[str]:
    store = write(read(layouts.her2st(tmp / "set")), tmp / "a.zarr")
    next(file for file in sorted((store / "slide" / "pyramid" / "0" / "c").rglob("*")) if file.is_file()).unlink()
    return convert(tmp, store, suffix="h5ad")


@case(
    "a slide with a damaged chunk", "the slide in the store is damaged", "slide/pyramid/0", "convert the section again"
)
def _(tmp: Path) -> list[str]:
    store = write(read(layouts.her2st(tmp / "set")), tmp / "a.zarr")
    chunk = next(f for f in sorted((store / "slide" / "pyramid" / "0" / "c").rglob("*")) if f.is_file())
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    return convert(tmp, store)


# outputs


@case("output of another kind", "'out.csv' has no known suffix", "NAME.h5ad or NAME.zarr")
def _(tmp: Path) -> list[str]:
    return convert(tmp, layouts.her2st(tmp / "set"), suffix="csv")


@case("output below a file", "can not write", "choose a folder")
def _(tmp: Path) -> list[str]:
    layouts.cells_csv(tmp / "a.csv")
    return ["data", "convert", str(layouts.her2st(tmp / "set")), str(tmp / "a.csv" / "out.zarr")]
