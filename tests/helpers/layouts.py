"""Small but genuine files in each layout that the readers know, with the formats' own field names.

Each function writes into a folder and returns the path to read. What is left out of a file, or put in wrong, is
left to the caller.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy.io import mmwrite
from scipy.sparse import csc_matrix, csr_matrix

MPP = 0.5
ENSEMBL = [f"ENSG000000000{i:02d}" for i in range(6)]
SYMBOLS = ["ERBB2", "COL1A1", "CD74", "TBCE", "TBCE", "KRT18"]
"""As in the human reference of 10x, one symbol belongs to two genes."""


def counts(spots: int, genes: int, seed: int = 0) -> np.ndarray:
    """Poisson counts, int (spots, genes), no spot without any."""
    x = np.random.default_rng(seed).poisson(0.7, (spots, genes))
    x[:, 0] += 1
    return x


def picture(width: int, height: int, path: Path | None = None) -> np.ndarray:
    """Return (and write) a picture that is nowhere the same."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return pixels


def her2st(folder: Path, name: str = "C5", *, image: bool = True) -> Path:
    """counts/NAME.tsv.gz, spots/NAME_selection.tsv, images/NAME.png; 200 µm pitch at 2 µm/px; one spot unselected."""
    x, y = (axis.ravel() for axis in np.mgrid[2:7, 3:8])
    table = pd.DataFrame(
        counts(len(x), 5), index=[f"{a}x{b}" for a, b in zip(x, y, strict=True)], columns=[f"G{i}" for i in range(5)]
    )
    (folder / "counts").mkdir(parents=True, exist_ok=True)
    (folder / "spots").mkdir(exist_ok=True)
    table.to_csv(folder / "counts" / f"{name}.tsv.gz", sep="\t")
    spots = pd.DataFrame({"x": x, "y": y, "new_x": x + 0.01, "new_y": y - 0.02})
    spots["pixel_x"], spots["pixel_y"] = spots["new_x"] * 100, spots["new_y"] * 100
    spots["selected"] = 1
    spots.loc[0, "selected"] = 0
    spots.to_csv(folder / "spots" / f"{name}_selection.tsv", sep="\t", index=False)
    if image:
        picture(900, 1000, folder / "images" / f"{name}.png")
    return folder


def paste(folder: Path, name: str = "slice1") -> Path:
    """NAME.csv.gz and NAME_coor.csv (no header), as in the PASTE tutorial."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = (axis.ravel() + 0.0625 for axis in np.mgrid[4:8, 5:9])
    table = pd.DataFrame(
        counts(len(x), 4), index=[f"{a}x{b}" for a, b in zip(x, y, strict=True)], columns=["GAPDH", "UBE2G2", "A", "B"]
    )
    table.to_csv(folder / f"{name}.csv.gz")
    np.savetxt(folder / f"{name}_coor.csv", np.column_stack([x, y]), delimiter=",")
    return folder


def tenx_h5(path: Path, x: np.ndarray, barcodes: list[str], ids: list[str], names: list[str], kinds: list[str]) -> Path:
    """Write a feature-barcode matrix as Cell Ranger does: compressed by barcode, strings as bytes."""
    matrix = csc_matrix(x.T)  # features x barcodes
    with h5py.File(path, "w") as file:
        file.attrs["filetype"], file.attrs["version"] = "matrix", 2
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        for field in ("data", "indices", "indptr"):
            kind = "i4" if field == "data" else "i8"
            group.create_dataset(field, data=getattr(matrix, field).astype(kind), chunks=True, compression="gzip")
        group["shape"] = np.array(matrix.shape, dtype="i4")
        features = group.create_group("features")
        features["_all_tag_keys"] = np.array([b"genome"])
        features["id"], features["name"] = np.array(ids, dtype="S"), np.array(names, dtype="S")
        features["feature_type"] = np.array(kinds, dtype="S")
        features["genome"] = np.array(["GRCh38"] * len(ids), dtype="S")
    return path


def tenx_mex(
    folder: Path, x: np.ndarray, barcodes: list[str], ids: list[str], names: list[str], kinds: list[str]
) -> Path:
    """Write matrix.mtx.gz, features.tsv.gz and barcodes.tsv.gz."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        mmwrite(file, csc_matrix(x.T), field="integer")
    features = "".join(f"{i}\t{n}\t{k}\n" for i, n, k in zip(ids, names, kinds, strict=True))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(features.encode()))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress("".join(f"{b}\n" for b in barcodes).encode()))
    return folder


def barcode(number: int) -> str:
    """Return a 10x barcode."""
    letters = "".join("ACGT"[(number >> (2 * i)) & 3] for i in range(8))
    return f"AAACAAGT{letters}-1"


def visium(folder: Path, *, positions: str = "new", matrix: str = "h5", image: bool = True, mpp: float = MPP) -> Path:
    """outs/ of Space Ranger: 32 spots under tissue and 8 beside it, slightly turned; an antibody among the features."""
    outs = folder / "outs"
    (outs / "spatial").mkdir(parents=True)
    row, column = (axis.ravel() for axis in np.mgrid[:8, :10])
    on = (row + column) % 2 == 0
    row, column = row[on], column[on]
    place = np.column_stack([column * 50.0, row * 100.0 * np.sqrt(3) / 2]) / mpp
    turn = np.array([[np.cos(0.03), -np.sin(0.03)], [np.sin(0.03), np.cos(0.03)]])
    place = place @ turn.T + 200
    inside = column < 8
    table = pd.DataFrame(
        {
            "barcode": [barcode(i) for i in range(len(row))],
            "in_tissue": inside.astype(int),
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": np.rint(place[:, 1]).astype(int),
            "pxl_col_in_fullres": np.rint(place[:, 0]).astype(int),
        }
    )
    name = {"new": "tissue_positions.csv", "old": "tissue_positions_list.csv"}[positions]
    table.to_csv(outs / "spatial" / name, index=False, header=positions == "new")
    scale = {
        "spot_diameter_fullres": 55 / mpp,
        "tissue_hires_scalef": 0.1,
        "fiducial_diameter_fullres": 88.9 / mpp,
        "tissue_lowres_scalef": 0.03,
    }
    (outs / "spatial" / "scalefactors_json.json").write_text(json.dumps(scale))
    if image:
        picture(160, 180, outs / "spatial" / "tissue_hires_image.png")
        picture(48, 54, outs / "spatial" / "tissue_lowres_image.png")
    barcodes = list(table["barcode"][inside][::-1])  # the matrix has an order of its own
    x = counts(len(barcodes), 7)
    kinds = ["Gene Expression"] * 6 + ["Antibody Capture"]
    write, place_ = (tenx_h5, "filtered_feature_bc_matrix.h5") if matrix == "h5" else (tenx_mex, _MATRIX)
    write(outs / place_, x, barcodes, [*ENSEMBL, "CD3"], [*SYMBOLS, "CD3_TotalSeqB"], kinds)
    (outs / "metrics_summary.csv").write_text("Sample ID,Number of Spots Under Tissue\ns,32\n")
    return outs


_MATRIX = "filtered_feature_bc_matrix"


def visium_hd(folder: Path, sizes: tuple[int, ...] = (8, 16)) -> Path:
    """outs/binned_outputs/square_0XXum/ of Space Ranger 3, positions as parquet, 0.25 µm/px."""
    outs = folder / "outs"
    for size in sizes:
        root = outs / "binned_outputs" / f"square_{size:03d}um"
        (root / "spatial").mkdir(parents=True)
        row, column = (axis.ravel() for axis in np.mgrid[:6, :5])
        names = [f"s_{size:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)]
        table = pd.DataFrame({"barcode": names, "in_tissue": (row > 0).astype(int), "array_row": row})
        table["array_col"] = column
        table["pxl_row_in_fullres"] = (row + 0.5) * size / 0.25 + 40
        table["pxl_col_in_fullres"] = (column + 0.5) * size / 0.25 + 20
        table.to_parquet(root / "spatial" / "tissue_positions.parquet", index=False)
        scale = {
            "spot_diameter_fullres": size / 0.25,
            "bin_size_um": float(size),
            "microns_per_pixel": 0.25,
            "regist_target_img_scalef": 0.5,
            "tissue_lowres_scalef": 0.05,
            "fiducial_diameter_fullres": 1000.0,
            "tissue_hires_scalef": 0.5,
        }
        (root / "spatial" / "scalefactors_json.json").write_text(json.dumps(scale))
        picture(250, 300, root / "spatial" / "tissue_hires_image.png")
        inside = [name for name, r in zip(names, row, strict=True) if r > 0]
        kinds = ["Gene Expression"] * 6
        tenx_h5(root / f"{_MATRIX}.h5", counts(len(inside), 6, seed=size), inside, ENSEMBL, SYMBOLS, kinds)
    return outs


def xenium(folder: Path, *, cells: str = "cells.parquet", matrix: str = "h5") -> Path:
    """Output folder of a Xenium run: cells with centroids, four genes and three kinds of control features."""
    folder.mkdir(parents=True)
    n = 40
    rng = np.random.default_rng(3)
    names = [f"{barcode(i)[8:12].lower()}{i:04d}-1" for i in range(n)]
    table = pd.DataFrame({"cell_id": names, "x_centroid": rng.uniform(0, 400, n), "y_centroid": rng.uniform(0, 300, n)})
    x = counts(n, 7)
    x[:, 4:] = 1
    table["transcript_counts"] = x[:, :4].sum(axis=1)
    table["control_probe_counts"], table["control_codeword_counts"] = x[:, 4], x[:, 5]
    table["total_counts"] = x.sum(axis=1)
    table["cell_area"], table["nucleus_area"] = rng.uniform(20, 200, n), rng.uniform(5, 50, n)
    if cells.endswith("parquet"):
        table.to_parquet(folder / cells, index=False)
    else:
        table.to_csv(folder / cells, index=False)
    ids = [*ENSEMBL[:4], "NegControlProbe_00042", "NegControlCodeword_0500", "UnassignedCodeword_0037"]
    genes = ["ABCC11", "ACTA2", "ACTG2", "ADAM9", *ids[4:]]
    kinds = ["Gene Expression"] * 4 + ["Negative Control Probe", "Negative Control Codeword", "Unassigned Codeword"]
    if matrix == "h5":
        tenx_h5(folder / "cell_feature_matrix.h5", x, names, ids, genes, kinds)
    else:
        tenx_mex(folder / "cell_feature_matrix", x, names, ids, genes, kinds)
    (folder / "experiment.xenium").write_text(json.dumps({"major_version": 5, "pixel_size": 0.2125}))
    (folder / "metrics_summary.csv").write_text("run_name,num_cells_detected\nrun,40\n")
    transcripts = b"transcript_id,cell_id,x_location,y_location,feature_name\n1,a,2.0,3.0,ABCC11\n"
    (folder / "transcripts.csv.gz").write_bytes(gzip.compress(transcripts))
    return folder


def cells_csv(path: Path) -> Path:
    """One CSV as R writes it: quoted names, x_centroid and y_centroid in µm, area, genes, one control probe."""
    n = 30
    rng = np.random.default_rng(4)
    x = counts(n, 4)
    head = ["", "x_centroid", "y_centroid", "area", "ABCC11", "ACTA2", "NegControlProbe_00042", "ACTG2"]
    lines = [",".join(f'"{name}"' for name in head)]
    for i in range(n):
        about = f'"{44000 + i}",{rng.uniform(0, 300):.6f},{rng.uniform(0, 200):.6f},{rng.uniform(20, 90):.4f}'
        lines.append(about + "".join(f",{v}" for v in x[i]))
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def annotated(*, image: bool = True, spots: int = 24) -> AnnData:
    """Return an AnnData as squidpy.read.visium makes one: uns["spatial"][library] with images and scalefactors."""
    row, column = (axis.ravel() for axis in np.mgrid[:8, :6])
    on = (row + column) % 2 == 0
    row, column = row[on][:spots], column[on][:spots]
    adata = AnnData(csr_matrix(counts(len(row), 6).astype(np.float32)))
    adata.obs_names = [barcode(i) for i in range(len(row))]
    adata.var_names = [*SYMBOLS[:4], "TBCE-1", SYMBOLS[5]]
    adata.var["gene_ids"] = ENSEMBL
    adata.obs["array_row"], adata.obs["array_col"] = row, column
    adata.obsm["spatial"] = np.column_stack([column * 50.0, row * 86.6025]) / MPP + 100
    if image:
        scale = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 55 / MPP}
        hires = picture(80, 160).astype(np.float32) / 255  # scanpy reads them as 0..1
        adata.uns["spatial"] = {"V1": {"images": {"hires": hires}, "scalefactors": scale, "metadata": {}}}
    return adata


def h5ad(path: Path, *, image: bool = True) -> Path:
    """Write :func:`annotated` as .h5ad."""
    path.parent.mkdir(parents=True, exist_ok=True)
    annotated(image=image).write_h5ad(path)
    return path
