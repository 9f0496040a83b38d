"""Readers on small but genuine files: what the files say is what the section has."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import anndata
import h5py
import layouts
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix, issparse
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, PluginError, UnitsError, UsageError
from stzoo.core.io.read import inspect, read, sections
from stzoo.core.slides.slide import Slide


def is_raw(section: Section) -> bool:
    """Whether X is what every reader promises: raw counts, float32 CSR, integer array positions."""
    x = section.adata.X
    ok = issparse(x) and x.format == "csr" and x.dtype == np.float32 and bool((x.data == np.rint(x.data)).all())
    columns = [c for c in ("array_row", "array_col") if c in section.adata.obs]
    return ok and all(section.adata.obs[c].dtype.kind == "i" for c in columns)


def only(path: Path, **options: object) -> dict:
    """Return the description of the one section at a path."""
    found = inspect(path, **options)
    assert len(found["sections"]) == 1
    return {"format": found["format"], **found["sections"][0]}


# Spatial Transcriptomics


def test_her2st_fits_the_scale_and_leaves_unselected_spots_out(tmp_path):
    folder = layouts.her2st(tmp_path / "set")
    layouts.her2st(folder, "C6", image=False)
    assert sections(folder) == ["C5", "C6"]
    section = read(f"{folder}::C5")
    assert is_raw(section)
    assert section.name == "C5"
    assert (section.n_spots, section.n_genes) == (24, 5)
    assert "2x3" not in section.adata.obs_names
    assert section.mpp == pytest.approx(2.0, rel=1e-6)
    assert (section.pitch_um, section.spot_diameter_um) == (200.0, 100.0)
    spot = section.adata.obs.loc["4x6"]
    assert (spot["array_row"], spot["array_col"]) == (6, 4)
    truth = pd.read_csv(folder / "counts" / "C5.tsv.gz", sep="\t", index_col=0).loc[section.adata.obs_names]
    np.testing.assert_array_equal(section.counts(), truth.to_numpy())
    assert (section.require_slide().width, section.require_slide().mpp) == (900, section.mpp)
    at = section.pixels[section.adata.obs_names.get_loc("4x6")]
    np.testing.assert_allclose(at, [401.0, 598.0])
    assert read(f"{folder}::C6").slide is None
    assert "1 of 25 spots" in only(f"{folder}::C5")["notes"][0]


def test_paste_is_in_micrometres(tmp_path):
    section = read(layouts.paste(tmp_path / "p"))
    assert is_raw(section)
    assert section.mpp is None
    np.testing.assert_allclose(section.um[0], [4.0625 * 200, 5.0625 * 200])
    assert section.adata.obs["array_col"].iloc[0] == 4


# Space Ranger


@pytest.mark.parametrize("matrix", ["h5", "mtx"])
@pytest.mark.parametrize("positions", ["new", "old"])
def test_visium(tmp_path, positions, matrix):
    outs = layouts.visium(tmp_path / "sample1", positions=positions, matrix=matrix)
    section = read(outs)
    assert is_raw(section)
    assert (section.name, section.n_spots, section.n_genes) == ("sample1", 32, 6)
    assert section.genes == ["ERBB2", "COL1A1", "CD74", "TBCE", "TBCE-1", "KRT18"]
    assert list(section.adata.var["gene_ids"]) == layouts.ENSEMBL
    assert section.mpp == pytest.approx(layouts.MPP, rel=5e-3)  # pixels are rounded in the file
    assert (section.pitch_um, section.spot_diameter_um) == (100.0, 55.0)
    assert section.adata.obs_names[0] == layouts.barcode(38)  # the order of the matrix, not of the positions
    assert section.adata.obs["array_row"].iloc[0] == 7
    slide = section.require_slide()
    assert (slide.width, slide.height) == (1600, 1800)  # of the full resolution, which spots are given in
    described = only(outs)
    assert described["format"] == "spaceranger"
    assert any("1 Antibody Capture" in text for text in described["notes"])
    assert any("TBCE" in text for text in described["notes"])
    assert read(outs.parent).name == "sample1"


def test_visium_scale_follows_the_pitch_where_the_stated_diameter_is_that_of_65_um(tmp_path):
    outs = layouts.visium(tmp_path / "s")
    file = outs / "spatial" / "scalefactors_json.json"
    scale = json.loads(file.read_text())
    file.write_text(json.dumps(scale | {"spot_diameter_fullres": 65 / layouts.MPP}))
    assert read(outs).mpp == pytest.approx(layouts.MPP, rel=5e-3)
    assert not [text for text in only(outs)["notes"] if "spot_diameter" in text]
    file.write_text(json.dumps(scale | {"spot_diameter_fullres": 80 / layouts.MPP}))
    assert read(outs).mpp == pytest.approx(layouts.MPP, rel=5e-3)
    assert [text for text in only(outs)["notes"] if "spot_diameter_fullres" in text]


def test_visium_takes_the_full_resolution_image_and_refuses_the_reduced_one(tmp_path):
    outs = layouts.visium(tmp_path / "s")
    layouts.picture(1600, 1800, tmp_path / "full.png")
    slide = read(outs, image=tmp_path / "full.png").require_slide()
    assert (slide.width, slide.height, slide.scale) == (1600, 1800, 1.0)
    with pytest.raises(DataError, match=r"outside the slide: it is 160 x 180 px"):
        read(outs, image=outs / "spatial" / "tissue_hires_image.png")


def test_visium_download_with_a_prefix(tmp_path):
    outs = layouts.visium(tmp_path / "s")
    (outs / "filtered_feature_bc_matrix.h5").rename(outs / "V1_Sample_filtered_feature_bc_matrix.h5")
    assert read(outs).n_spots == 32


def test_visium_hd_has_a_section_for_each_bin_size(tmp_path):
    outs = layouts.visium_hd(tmp_path / "hd")
    assert sections(outs) == ["square_008um", "square_016um"]
    section = read(f"{outs}::square_016um")
    assert is_raw(section)
    assert (section.n_spots, section.mpp, section.pitch_um, section.spot_diameter_um) == (25, 0.25, 16.0, 16.0)
    np.testing.assert_allclose(section.pixels[0], [0.5 * 64 + 20, 1.5 * 64 + 40])
    assert read(outs / "binned_outputs" / "square_008um").pitch_um == 8.0
    with pytest.raises(UsageError, match="holds 2 sections"):
        read(outs)


# Xenium


@pytest.mark.parametrize("matrix", ["h5", "mtx"])
@pytest.mark.parametrize("cells", ["cells.parquet", "cells.csv.gz"])
def test_xenium_cells(tmp_path, cells, matrix):
    folder = layouts.xenium(tmp_path / "run", cells=cells, matrix=matrix)
    section = read(folder)
    assert is_raw(section)
    assert (section.n_spots, section.genes) == (40, ["ABCC11", "ACTA2", "ACTG2", "ADAM9"])
    assert section.mpp is None
    assert section.um.max() < 400
    described = only(folder)
    assert described["format"] == "xenium"
    assert "features that are not genes left out: 1 Negative Control Probe, 1" in described["notes"][0]
    assert described["missing"] == ["slide image", "array_row/array_col"]


def test_xenium_bins_sum_cells(tmp_path):
    folder = layouts.xenium(tmp_path / "run")
    cells, bins = read(folder), read(folder, bin_um=50)
    assert is_raw(bins)
    assert bins.counts().sum() == cells.counts().sum()
    assert bins.adata.obs["n_cells"].sum() == cells.n_spots
    assert (bins.adata.obs["n_cells"] > 0).all()
    centres = (bins.adata.obs[["array_col", "array_row"]].to_numpy() + 0.5) * 50
    np.testing.assert_array_equal(bins.um, centres)
    inside = (np.floor(cells.um / 50) == np.floor(centres[0] / 50)).all(axis=1)
    np.testing.assert_array_equal(bins.counts()[0], cells.counts()[inside].sum(axis=0))


def test_an_image_given_to_micrometres_shares_their_corner(tmp_path):
    folder = layouts.xenium(tmp_path / "run")
    layouts.picture(900, 700, tmp_path / "he.png")
    section = read(folder, image=tmp_path / "he.png", mpp=0.5)
    np.testing.assert_allclose(section.pixels, section.um / 0.5)
    assert section.require_slide().mpp == 0.5
    with pytest.raises(UnitsError, match="does not say its µm/px"):
        read(folder, image=tmp_path / "he.png")


# tables


@pytest.mark.parametrize("name", ["cells.csv", "cells.csv.gz"])
def test_cells_csv(tmp_path, name):
    section = read(layouts.cells_csv(tmp_path / "set" / name))
    assert is_raw(section)
    assert section.genes == ["ABCC11", "ACTA2", "ACTG2"]
    assert section.adata.obs_names[0] == "44000"
    assert section.adata.obs["area"].between(20, 90).all()
    np.testing.assert_array_equal(section.counts(), layouts.counts(30, 4)[:, [0, 1, 3]])
    assert "control features left out: 1 (NegControlProbe_00042)" in only(tmp_path / "set" / name)["notes"][0]


def test_a_folder_of_tables_leaves_other_csv_files_alone(tmp_path):
    layouts.cells_csv(tmp_path / "q1.csv.gz")
    layouts.cells_csv(tmp_path / "q2.csv")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "noise.csv.gz").write_bytes(b"\x1f\x8bnoise")
    assert sections(tmp_path) == ["q1", "q2"]


def test_aligned_units_are_pixels_without_scale(tmp_path):
    (tmp_path / "roi.csv").write_text(
        '"","barcode","aligned_x","aligned_y","A"\n"1","AAC-1",10,20,3\n"2","AAG-1",30,20,0\n'
    )
    assert only(tmp_path / "roi.csv")["missing"] == ["slide image", "µm/px", "array_row/array_col"]
    with pytest.raises(UnitsError, match="no µm/px"):
        _ = read(tmp_path / "roi.csv").um
    section = read(tmp_path / "roi.csv", mpp=5.93)
    np.testing.assert_allclose(section.um[1], [177.9, 118.6])
    assert list(section.adata.obs_names) == ["AAC-1", "AAG-1"]


# AnnData


def test_h5ad_of_squidpy(tmp_path):
    section = read(layouts.h5ad(tmp_path / "V1.h5ad"))
    assert is_raw(section)
    assert section.mpp == pytest.approx(layouts.MPP, rel=1e-6)  # from the hexagonal lattice
    assert (section.pitch_um, section.spot_diameter_um) == (100.0, 55.0)
    slide = section.require_slide()
    assert (slide.width, slide.height) == (800, 1600)
    shown = slide.thumbnail(160)[0].astype(int)
    assert np.abs(shown - layouts.picture(80, 160)).max() <= 1


@pytest.mark.parametrize("nested", [True, False])
def test_a_folder_of_h5ad_finds_images_beside(tmp_path, nested):
    data = tmp_path / "h5ad" if nested else tmp_path
    for name in ("S1", "S2"):
        adata = layouts.annotated(image=False)
        adata.obsm["spatial_um"] = adata.obsm["spatial"] * 16.2
        del adata.obs["array_row"]
        data.mkdir(exist_ok=True)
        adata.write_h5ad(data / f"{name}.h5ad")
    layouts.picture(900, 800, tmp_path / "images" / "S2.png")
    assert sections(tmp_path) == ["S1", "S2"]
    section = read(f"{tmp_path}::S2")
    assert section.mpp == pytest.approx(16.2)
    assert section.require_slide().width == 900
    assert read(f"{tmp_path}::S1").slide is None


def test_a_given_scale_goes_before_micrometres_that_came_with_pixels(tmp_path):
    adata = layouts.annotated()
    adata.obsm["spatial_um"] = adata.obsm["spatial"] * 16.2
    adata.write_h5ad(tmp_path / "a.h5ad")
    section = read(tmp_path / "a.h5ad", mpp=2.0)
    np.testing.assert_allclose(section.um, section.pixels * 2)
    assert section.require_slide().mpp == 2.0


def test_several_sections_in_one_file(tmp_path):
    adata = layouts.annotated(image=False)
    adata.obs["library_id"] = pd.Categorical(["V2"] * 10 + ["V1"] * 14)
    scale = {"tissue_hires_scalef": 0.1}
    adata.uns["spatial"] = {
        name: {"images": {"hires": layouts.picture(width, 160)}, "scalefactors": scale}
        for name, width in (("V1", 80), ("V2", 90))
    }
    adata.write_h5ad(tmp_path / "both.h5ad")
    adata.write_zarr(tmp_path / "both.zarr")
    for path in (tmp_path / "both.h5ad", tmp_path / "both.zarr"):
        assert sections(path) == ["V2", "V1"]
        section = read(f"{path}::V2")
        assert (section.n_spots, section.require_slide().width) == (10, 900)
    assert "both/V1" in sections(tmp_path, format="h5ad")
    assert read(f"{tmp_path}::both/V1", format="h5ad").n_spots == 14


def test_counts_are_found_beside_normalised_values(tmp_path):
    adata = layouts.annotated()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X.toarray())
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert is_raw(read(tmp_path / "a.h5ad"))
    assert "layers['counts']" in only(tmp_path / "a.h5ad")["notes"][0]


def test_values_that_are_no_counts_are_flagged(tmp_path):
    adata = layouts.annotated()
    adata.X = adata.X * 0.37
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert only(tmp_path / "a.h5ad")["counts"] == "not integers"
    assert read(tmp_path / "a.h5ad").n_spots == 24


def test_dense_integers_become_sparse_floats(tmp_path):
    adata = layouts.annotated()
    adata.X = adata.X.toarray().astype(np.int64)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert is_raw(read(tmp_path / "a.h5ad"))


def test_a_square_array_of_the_same_parity_is_not_visium(tmp_path):
    row, column = (axis.ravel() for axis in np.mgrid[:10, :10])
    on = (row + column) % 2 == 0
    adata = AnnData(csr_matrix(layouts.counts(int(on.sum()), 3).astype(np.float32)))
    adata.obs["array_row"], adata.obs["array_col"] = row[on], column[on]
    adata.obsm["spatial"] = np.column_stack([column, row])[on] * 25.0
    adata.uns["meta"] = json.dumps({"pitch_um": 100.0})
    adata.write_h5ad(tmp_path / "st2k.h5ad")
    section = read(tmp_path / "st2k.h5ad")
    assert section.mpp == pytest.approx(4.0)
    assert section.pitch_um == 100.0


@pytest.mark.parametrize("version", [2, 3])
def test_anndata_zarr(tmp_path, version):
    with anndata.settings.override(zarr_write_format=version):
        layouts.annotated().write_zarr(tmp_path / "a.zarr")
    section = read(tmp_path / "a.zarr")
    assert is_raw(section)
    assert section.mpp == pytest.approx(layouts.MPP, rel=1e-6)
    assert only(tmp_path / "a.zarr")["format"] == "anndata-zarr"


def test_spatialdata_names_the_extra(tmp_path):
    store = tmp_path / "s.zarr"
    (store / "tables" / "table").mkdir(parents=True)
    attributes = {"spatialdata_attrs": {"version": "0.2", "spatialdata_software_version": "0.7.3"}}
    (store / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
    with pytest.raises(DataError) as raised:
        read(store)
    try:
        import spatialdata  # noqa: F401
    except ImportError:
        assert "pip install 'stzoo[spatialdata]'" in str(raised.value)
    else:
        assert "incomplete or damaged" in str(raised.value)


# who reads what


def test_every_layout_has_one_reader(tmp_path):
    paths = {
        "legacy-st": layouts.her2st(tmp_path / "a"),
        "legacy-st-csv": layouts.paste(tmp_path / "b"),
        "spaceranger": layouts.visium(tmp_path / "c"),
        "xenium": layouts.xenium(tmp_path / "d"),
        "cells-csv": layouts.cells_csv(tmp_path / "e" / "x.csv").parent,
        "h5ad": layouts.h5ad(tmp_path / "f" / "x.h5ad").parent,
    }
    assert {inspect(path)["format"]: path for path in paths.values()} == paths
    assert inspect(layouts.visium_hd(tmp_path / "g"))["format"] == "spaceranger"


def test_two_readers_for_one_path_are_an_error_that_names_both(tmp_path):
    folder = layouts.her2st(tmp_path / "a")
    layouts.h5ad(folder / "x.h5ad")
    with pytest.raises(DataError, match=r"'h5ad' and 'legacy-st'.*\n.*\n.*--format h5ad"):
        read(folder)
    assert read(folder, format="legacy-st").name == "C5"
    with pytest.raises(PluginError, match="did you mean 'legacy-st'"):
        read(folder, format="legacyst")


def test_inspect_goes_on_after_a_broken_section(tmp_path):
    folder = layouts.her2st(tmp_path / "a")
    layouts.her2st(folder, "D1")
    file = folder / "counts" / "C5.tsv.gz"
    file.write_bytes(file.read_bytes()[:60])
    broken, whole = inspect(folder)["sections"]
    assert "cut off" in broken["error"]
    assert whole["spots"] == 24


def test_a_reader_of_another_distribution_is_asked_too_and_a_broken_one_costs_only_itself(tmp_path, site):
    module = (
        "from stzoo.core.hookspecs import hookimpl\nfrom stzoo.core.specs import ReaderSpec\n"
        "@hookimpl\ndef stzoo_readers():\n    return [ReaderSpec('mine', 'foreign_reader:Mine', 'mine')]\n"
    )
    site.install("foreign", {"foreign": "foreign_reader"}, {"foreign_reader.py": module})
    folder = layouts.h5ad(tmp_path / "data" / "x.h5ad").parent
    assert read(folder).name == "x"  # 'foreign_reader:Mine' does not exist
    (tmp_path / "data" / "x.h5ad").unlink()
    with pytest.raises(DataError, match=r"could not be asked: mine"):
        read(folder)


@pytest.mark.parametrize("name", ["features.tsv", "genes.tsv"])
def test_mex_without_gzip_and_of_cell_ranger_2(tmp_path, name):
    outs = layouts.visium(tmp_path / "s", matrix="mtx")
    folder = outs / "filtered_feature_bc_matrix"
    for part in ("matrix.mtx", "features.tsv", "barcodes.tsv"):
        content = gzip.decompress((folder / f"{part}.gz").read_bytes())
        (folder / f"{part}.gz").unlink()
        (folder / (name if part == "features.tsv" else part)).write_bytes(content)
    assert read(outs).n_spots == 32


def test_reading_follows_the_folder(tmp_path):
    shutil.move(layouts.her2st(tmp_path / "a"), tmp_path / "moved")
    assert isinstance(read(tmp_path / "moved").require_slide(), Slide)


def test_matrix_with_indices_out_of_range_is_refused(tmp_path):
    outs = layouts.visium(tmp_path / "s")
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "r+") as file:
        file["matrix/indices"][3] = 99
    with pytest.raises(DataError, match="damaged"):
        read(outs)
