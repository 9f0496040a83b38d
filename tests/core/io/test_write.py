"""Sections on disk: what is written comes back, others can open it, and nothing half-written stays."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import anndata
import layouts
import numpy as np
import pytest
import zarr
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, OutputError, UsageError
from stzoo.core.io.read import inspect, read
from stzoo.core.io.write import FORMAT_VERSION, write
from stzoo.core.slides.slide import Slide


@pytest.fixture
def section(tmp_path) -> Section:
    """A section with a slide file, from the her2st layout."""
    return read(layouts.her2st(tmp_path / "set"))


def assert_same(one: Section, other: Section) -> None:
    assert one.name == other.name
    assert one.genes == other.genes
    assert list(one.adata.obs_names) == list(other.adata.obs_names)
    assert (one.mpp, one.spot_diameter_um, one.pitch_um) == (other.mpp, other.spot_diameter_um, other.pitch_um)
    np.testing.assert_array_equal(one.counts(), other.counts())
    np.testing.assert_array_equal(one.um, other.um)
    for column in ("array_row", "array_col"):
        np.testing.assert_array_equal(one.adata.obs[column], other.adata.obs[column])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_round_trip(tmp_path, section, suffix):
    path = write(section, tmp_path / f"out.{suffix}")
    back = read(path)
    assert_same(section, back)
    slide = back.require_slide()
    assert (slide.width, slide.height, slide.mpp) == (900, 1000, section.mpp)
    here, there = section.require_slide(), slide
    np.testing.assert_array_equal(here.read(100, 200, 300, 250), there.read(100, 200, 300, 250))
    assert_same(back, read(write(back, tmp_path / f"again.{suffix}")))
    assert "stzoo_section" not in back.adata.uns


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_hidden_spots_stay_hidden(tmp_path, section, suffix):
    hidden = section.hide(np.arange(section.n_spots) % 3 == 0)
    back = read(write(hidden, tmp_path / f"out.{suffix}"))
    np.testing.assert_array_equal(back.measured, hidden.measured)
    np.testing.assert_array_equal(back.counts(), hidden.counts())
    np.testing.assert_allclose(back.depth, hidden.depth)


def test_a_zarr_store_keeps_the_whole_slide(tmp_path, section):
    path = write(section, tmp_path / "out.zarr")
    original = section.require_slide().read(0, 0, 900, 1000)
    file = section.require_slide().path
    assert file is not None
    file.unlink()
    slide = read(path).require_slide()
    np.testing.assert_array_equal(slide.read(0, 0, 900, 1000), original)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(slide)).read(5, 6, 70, 80), original[6:86, 5:75])


def test_the_slide_is_a_pyramid_that_others_open(tmp_path, section):
    pixels = layouts.picture(2301, 1500)
    section = replace(section, slide=Slide.from_array(pixels, mpp=section.mpp))
    path = write(section, tmp_path / "out.zarr")
    group = zarr.open_group(path / "slide" / "pyramid", mode="r")
    about = group.attrs["ome"]["multiscales"][0]
    assert [axis["name"] for axis in about["axes"]] == ["c", "y", "x"]
    shapes = [group[entry["path"]].shape for entry in about["datasets"]]
    assert shapes == [(3, 1500, 2301), (3, 750, 1151), (3, 375, 576)]
    scales = [entry["coordinateTransformations"][0]["scale"][1] for entry in about["datasets"]]
    np.testing.assert_allclose(scales, section.mpp * np.array([1, 2, 4]))
    coarse = read(path).require_slide().thumbnail(575)[0].astype(int)
    direct = Slide.from_array(pixels).thumbnail(575)[0].astype(int)
    smooth = np.s_[:, :, :2]  # the third channel wraps around
    assert np.abs(coarse[smooth] - direct[smooth]).max() <= 2


def test_a_large_slide_is_written_in_strips(tmp_path, section):
    pixels = layouts.picture(600, 4500)
    section = replace(section, slide=Slide.from_array(pixels, mpp=0.5))
    slide = read(write(section, tmp_path / "out.zarr")).require_slide()
    np.testing.assert_array_equal(slide.read(0, 4000, 600, 500), pixels[4000:4500])


def test_a_reduced_slide_stays_reduced(tmp_path):
    visium = read(layouts.visium(tmp_path / "v"))
    slide = read(write(visium, tmp_path / "out.zarr")).require_slide()
    assert (slide.width, slide.height) == (1600, 1800)
    assert zarr.open_group(tmp_path / "out.zarr" / "slide" / "pyramid")["0"].shape == (3, 180, 160)
    one, other = (s.thumbnail(160)[0].astype(int) for s in (visium.require_slide(), slide))
    assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("again", [False, True])
def test_anndata_opens_the_store(tmp_path, section, again):
    path = write(section, tmp_path / "out.zarr")
    assert json.loads((path / "zarr.json").read_text())["zarr_format"] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if again:
            zarr.consolidate_metadata(path)  # the slide must not become a node of the AnnData
        adata = anndata.read_zarr(path)
    assert adata.shape == (section.n_spots, section.n_genes)
    library = adata.uns["spatial"]["C5"]
    assert library["images"]["hires"].shape == (1000, 900, 3)
    assert set(library["scalefactors"]) == {"tissue_hires_scalef", "microns_per_pixel", "spot_diameter_fullres"}


def test_h5ad_survives_the_loss_of_the_original_slide(tmp_path, section):
    path = write(section, tmp_path / "out.h5ad")
    file = section.require_slide().path
    assert file is not None
    layouts.picture(300, 200, file)  # another picture under the same name
    back = read(path)
    assert (back.require_slide().width, back.require_slide().path) == (900, None)
    assert "not the slide that it was" in inspect(path)["sections"][0]["notes"][-1]
    file.write_bytes(b"\x89PNG broken")
    assert read(path).require_slide().width == 900
    file.unlink()
    assert read(path).require_slide().width == 900


def test_a_section_without_slide_or_scale(tmp_path, section):
    bare = replace(section, slide=None, mpp=None, pitch_um=None, spot_diameter_um=None)
    back = read(write(bare, tmp_path / "out.zarr"))
    assert back.slide is None
    assert not (tmp_path / "out.zarr" / "slide").exists()


def test_bins_come_back_as_bins(tmp_path):
    bins = read(layouts.xenium(tmp_path / "run"), bin_um=50)
    back = read(write(bins, tmp_path / "out.h5ad"))
    assert_same(bins, back)
    assert list(back.adata.obs["n_cells"]) == list(bins.adata.obs["n_cells"])


# versions


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize(
    ("version", "says"),
    [(FORMAT_VERSION + 1, "pip install --upgrade stzoo"), (0, "never existed"), ("two", "not a number")],
)
def test_other_versions_are_refused(tmp_path, section, suffix, version, says):
    path = write(section, tmp_path / f"out.{suffix}")
    adata = anndata.read_h5ad(path) if suffix == "h5ad" else anndata.read_zarr(path)
    adata.uns["stzoo_section"]["format_version"] = version
    other = tmp_path / f"other.{suffix}"
    adata.write_h5ad(other) if suffix == "h5ad" else adata.write_zarr(other)
    with pytest.raises(DataError, match=says) as raised:
        read(other)
    assert str(other) in str(raised.value)


def test_version_1_is_read(tmp_path, section):
    """As stzoo wrote it first: empty strings for what is unknown, the slide by its path only."""
    adata = section.adata.copy()
    slide = section.require_slide()
    about = {"format_version": 1, "name": "C5", "mpp": section.mpp, "spot_diameter_um": "", "pitch_um": 200.0}
    adata.uns["stzoo_section"] = {**about, "slide": str(slide.path), "slide_scale": 1.0}
    adata.write_h5ad(tmp_path / "old.h5ad")
    back = read(tmp_path / "old.h5ad")
    assert (back.name, back.mpp, back.pitch_um, back.spot_diameter_um) == ("C5", section.mpp, 200.0, None)
    assert back.require_slide().width == 900


# whole or absent


def test_nothing_is_overwritten_unasked(tmp_path, section):
    path = write(section, tmp_path / "out.zarr")
    before = sorted(p.relative_to(path) for p in path.rglob("*"))
    with pytest.raises(OutputError, match="exists already"):
        write(section, path)
    assert sorted(p.relative_to(path) for p in path.rglob("*")) == before
    smaller = section.take_genes(section.genes[:2])
    assert read(write(smaller, path, overwrite=True)).n_genes == 2


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_failed_write_leaves_nothing_and_names_the_key(tmp_path, section, suffix):
    section.adata.uns["mine"] = object()
    out = tmp_path / "new" / f"out.{suffix}"
    with pytest.raises(OutputError, match="mine"):
        write(section, out)
    assert list(out.parent.iterdir()) == []


def test_a_damaged_slide_fails_the_write(tmp_path, section):
    file = section.require_slide().path
    assert isinstance(file, Path)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged"):
        write(replace(section, slide=Slide.open(file, mpp=2.0)), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_other_suffixes_are_refused(tmp_path, section):
    with pytest.raises(UsageError, match=r"NAME\.h5ad or NAME\.zarr"):
        write(section, tmp_path / "out.csv")


def test_a_damaged_pyramid_is_named(tmp_path, section):
    path = write(section, tmp_path / "out.zarr")
    (path / "slide" / "pyramid" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match="the slide in the store is damaged"):
        read(path)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_micrometres_stand_where_scanpy_looks_and_come_back_as_micrometres(tmp_path, section, suffix):
    adata = section.adata.copy()
    adata.obsm["spatial_um"] = section.um
    del adata.obsm["spatial"]
    cells = Section(adata, "cells")
    path = write(cells, tmp_path / f"out.{suffix}")
    opened = anndata.read_h5ad(path) if suffix == "h5ad" else anndata.read_zarr(path)
    np.testing.assert_array_equal(opened.obsm["spatial"], cells.um)
    assert opened.uns["stzoo_section"]["spatial_unit"] == "um"
    assert "spatial" not in cells.adata.obsm
    back = read(path)
    assert set(back.adata.obsm) == {"spatial_um"}
    assert back.mpp is None
    np.testing.assert_array_equal(back.um, cells.um)
