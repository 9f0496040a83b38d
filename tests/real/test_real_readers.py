"""The readers on the real data of ../shared/data: every folder, every image, and scores that are known."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import issparse
from stzoo.core.data.binning import bin_section
from stzoo.core.data.section import Section
from stzoo.core.io.read import inspect, read, sections
from stzoo.core.io.write import write

pytestmark = pytest.mark.real

FORMATS = {
    "her2st": ("legacy-st", 31),
    "paste_breast": ("legacy-st-csv", 4),
    "dlpfc": ("h5ad", 2),
    "mob": ("h5ad", 3),
    "dbit_embryo": ("h5ad", 1),
    "xenium_breast": ("cells-csv", 4),
    "xenium_mouse_brain": ("h5ad", 3),
    "merfish_hypothalamus": ("h5ad", 2),
}


def sparse(section: Section) -> bool:
    x = section.adata.X
    return issparse(x) and x.format == "csr" and x.dtype == np.float32


@pytest.mark.parametrize("folder", FORMATS)
def test_every_folder_is_recognised_by_one_reader(shared_data, folder):
    format, n = FORMATS[folder]
    names = sections(shared_data / folder)
    assert len(names) == n
    found = inspect(f"{shared_data / folder}::{names[0]}")
    assert found["format"] == format
    assert found["sections"][0]["counts"] == ("not integers" if folder == "merfish_hypothalamus" else "raw")


@pytest.mark.parametrize("name", ["C2", "C3", "C4", "C5"])
def test_her2st_scale_and_slide(shared_data, name):
    section = read(f"{shared_data / 'her2st'}::{name}")
    assert sparse(section)
    assert section.mpp == pytest.approx(0.69, abs=0.005)
    slide = section.require_slide()
    assert 9000 < min(slide.width, slide.height) < 10000
    assert ((section.pixels > 0) & (section.pixels < [slide.width, slide.height])).all()
    array = section.adata.obs[["array_col", "array_row"]].to_numpy()
    steps = np.abs(array[:, None] - array).sum(axis=-1) == 1  # neighbours on the array; single spots stray
    distances = np.linalg.norm(section.um[:, None] - section.um, axis=-1)[steps]
    assert distances.mean() == pytest.approx(200, rel=0.02)


def test_her2st_counts_are_those_that_pandas_reads(shared_data):
    section = read(f"{shared_data / 'her2st'}::C5")
    table = pd.read_csv(shared_data / "her2st" / "counts" / "C5.tsv.gz", sep="\t", index_col=0)
    assert list(table.columns) == section.genes
    np.testing.assert_array_equal(section.counts(), table.loc[section.adata.obs_names].to_numpy(np.float32))


def test_a_her2st_section_is_read_within_its_budget(shared_data):
    read(f"{shared_data / 'her2st'}::C2")  # imports
    start = time.process_time()
    read(f"{shared_data / 'her2st'}::C5")
    assert time.process_time() - start < 1.5


def test_paste_counts_are_those_that_pandas_reads(shared_data):
    section = read(f"{shared_data / 'paste_breast'}::slice1")
    table = pd.read_csv(shared_data / "paste_breast" / "slice1.csv.gz", index_col=0)
    np.testing.assert_array_equal(section.counts(), table.to_numpy(np.float32))
    assert section.pitch_um == 200


def test_dlpfc_has_its_image_and_the_pitch_of_visium(shared_data):
    section = read(f"{shared_data / 'dlpfc'}::151673")
    assert section.mpp == pytest.approx(16.2, abs=0.05)
    assert (section.pitch_um, section.spot_diameter_um) == (100.0, 55.0)
    assert section.require_slide().width == 600
    assert "layer" in section.adata.obs
    assert section.gene_index(["ENSG00000122585"]) == [section.genes.index("NPY")]


def test_mob_is_not_taken_for_visium(shared_data):
    section = read(f"{shared_data / 'mob'}::MOB2")
    assert section.mpp == pytest.approx(4.42, abs=0.01)
    assert section.pitch_um == pytest.approx(141.4)
    assert section.require_slide().width == 1905


def test_dbit_scale_follows_from_its_grid(shared_data):
    section = read(shared_data / "dbit_embryo")
    assert (section.name, section.pitch_um) == ("FFPE-2", 50.0)
    assert section.mpp == pytest.approx(50 * 50 / 721, rel=0.01)


def test_merfish_is_two_sections(shared_data):
    path = shared_data / "merfish_hypothalamus" / "two_sections.h5ad"
    names = sections(path)
    parts = [read(f"{path}::{name}") for name in names]
    assert sum(part.n_spots for part in parts) == 11_162
    assert {float(name) for name in names} == {part.adata.obs["bregma_mm"].iloc[0] for part in parts}


@pytest.mark.parametrize("size", [25, 50])
def test_binned_cells_are_the_lattice_that_others_made(shared_data, size):
    folder = shared_data / "xenium_mouse_brain"
    cells, lattice = read(f"{folder}::cells"), read(f"{folder}::lattice_{size}um")
    cells.adata.obsm["spatial_um"] = cells.um - cells.um.min(axis=0)  # the lattice begins at the first cell
    bins = bin_section(cells, size)
    index = [pd.MultiIndex.from_frame(s.adata.obs[["array_row", "array_col"]].astype(int)) for s in (bins, lattice)]
    order = index[0].get_indexer(index[1])
    assert (order >= 0).all()
    assert bins.n_spots == lattice.n_spots
    differ = np.asarray(abs(bins.adata.X[order] - lattice.adata.X).sum(axis=1)).ravel() > 0
    assert differ.sum() <= 2  # one cell of 36,602 lies on an edge, as far as float32 can say
    same = bins.adata.obs["n_cells"].to_numpy()[order] == lattice.adata.obs["n_cells"].to_numpy()
    np.testing.assert_array_equal(same, ~differ)
    np.testing.assert_allclose(bins.um[order], lattice.um)
    assert lattice.pitch_um == size


def test_xenium_and_visium_of_one_tissue_share_a_frame(shared_data):
    folder = shared_data / "xenium_breast"
    cells = read(f"{folder}::xenium_roi", mpp=5.93)
    spots = read(f"{folder}::visium_roi", mpp=5.93)
    assert (cells.n_spots, spots.n_genes) == (17_136, 18_085)
    overlap = (spots.um > cells.um.min(axis=0)) & (spots.um < cells.um.max(axis=0))
    assert overlap.all(axis=1).mean() > 0.9
    assert read(f"{folder}::xenium_q1", bin_um=50).n_spots > 1500


def test_a_converted_section_keeps_its_image(shared_data, tmp_path):
    section = read(f"{shared_data / 'mob'}::MOB1")
    path: Path = write(section, tmp_path / "mob1.zarr")
    back = read(path)
    np.testing.assert_array_equal(
        section.require_slide().read(700, 600, 500, 400), back.require_slide().read(700, 600, 500, 400)
    )
    np.testing.assert_array_equal(section.counts(), back.counts())
    assert back.mpp == section.mpp
