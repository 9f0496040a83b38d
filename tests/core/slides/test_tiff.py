"""TIFF in every layout reads as tifffile reads it, tile by tile, with the µm/px that it states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pictures import OME, RGB, TIFF, H, W, tissue, whole, write_pyramid
from PIL import Image
from recording import Recording
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.sources import open_source


@pytest.mark.parametrize("layout", TIFF)
def test_tiff_layouts_read_as_tifffile_reads_them(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb", **TIFF[layout]}
    bigtiff, byteorder = options.pop("bigtiff", False), options.pop("byteorder", None)
    tifffile.imwrite(path, RGB, bigtiff=bigtiff, byteorder=byteorder, **options)
    expected = tifffile.imread(path)
    slide = Slide.open(path)
    assert np.array_equal(whole(slide), expected)
    for x, y, w, h in ((0, 0, 1, 1), (63, 47, 3, 80), (200, 150, 50, 40), (17, 5, 120, 66)):
        assert np.array_equal(slide.read(x, y, w, h), expected[y : y + h, x : x + w])


def test_colour_models_of_tiff(tmp_path: Path) -> None:
    gray = RGB[..., 0]
    tifffile.imwrite(tmp_path / "white.tif", gray, photometric="miniswhite")
    assert np.array_equal(whole(Slide.open(tmp_path / "white.tif"))[..., 1], 255 - gray)
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "palette.tif", gray, photometric="palette", colormap=colours)
    assert np.array_equal(whole(Slide.open(tmp_path / "palette.tif")), np.moveaxis(colours // 257, 0, -1)[gray])
    rgba = np.dstack([RGB, np.full((H, W), 0, np.uint8)])
    tifffile.imwrite(tmp_path / "clear.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert (whole(Slide.open(tmp_path / "clear.tif")) == 255).all()
    tifffile.imwrite(tmp_path / "bits.tif", gray > 128, photometric="minisblack")
    assert np.array_equal(whole(Slide.open(tmp_path / "bits.tif"))[..., 0] == 255, gray > 128)
    Image.fromarray(RGB).save(tmp_path / "pillow.tif", compression="tiff_lzw")
    assert np.array_equal(whole(Slide.open(tmp_path / "pillow.tif")), RGB)


def test_tiles_that_were_never_scanned_are_white(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", tissue(128, 128), photometric="rgb", tile=(64, 64), compression="deflate")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        counts = file.pages[0].tags["TileByteCounts"]
        counts.overwrite((*counts.value[:3], 0))
    slide = Slide.open(tmp_path / "a.tif")
    assert (slide.read(64, 64, 64, 64) == 255).all()
    assert np.array_equal(slide.read(0, 0, 128, 64), tissue(128, 128)[:64])


def test_planes_stored_apart(tmp_path: Path) -> None:
    planes = np.moveaxis(RGB, -1, 0)
    tifffile.imwrite(tmp_path / "planar.tif", planes, photometric="rgb", planarconfig="separate", tile=(64, 64))
    tifffile.imwrite(tmp_path / "pages.ome.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
    for name in ("planar.tif", "pages.ome.tif"):
        assert np.array_equal(whole(Slide.open(tmp_path / name)), RGB)


@pytest.mark.parametrize("subifds", [True, False])
def test_pyramids_use_the_nearest_finer_level(tmp_path: Path, subifds: bool) -> None:
    path = tmp_path / "pyramid.ome.tif"
    image = tissue(512, 640)
    made = write_pyramid(path, image, subifds=subifds)
    source = Recording(open_source(path))
    slide = Slide(source, path=path, mpp=None if subifds else 0.5)
    assert slide.mpp == 0.5
    assert source.shapes == [level.shape[:2] for level in made]
    for level, mpp in enumerate((0.5, 1.0, 2.0)):
        assert np.array_equal(slide.read(0, 0, 640, 512, mpp=mpp), made[level])
    source.asked.clear()
    slide.tiles([[300, 200]], size_px=32, mpp=1.9)
    slide.tiles([[300, 200]], size_px=32, mpp=0.7)
    slide.thumbnail(100)
    assert [level for level, *_ in source.asked] == [1, 0, 2]


def test_reading_is_bounded_by_the_request_and_tiles_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    own = tifffile.TiffPage.decode.func  # tifffile's decoder of a page, by the number of the tile

    def decoder(page: tifffile.TiffPage) -> Any:
        decode = own(page)

        def counted(data: bytes, index: int, **options: Any) -> Any:
            decoded.append(index)
            return decode(data, index, **options)

        return counted

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(decoder))
    tifffile.imwrite(tmp_path / "a.tif", tissue(1024, 1024), photometric="rgb", tile=(64, 64), compression="deflate")
    slide = Slide.open(tmp_path / "a.tif", mpp=0.5)
    slide.tiles([[128, 128], [128, 128], [140, 130]], size_px=64, mpp=0.5)
    assert 0 < len(decoded) == len(set(decoded)) <= 9


def test_thumbnail_of_a_tiff_without_pyramid_goes_band_by_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(32, 32))
    source = Recording(open_source(tmp_path / "a.tif"))
    slide = Slide(source, path=tmp_path / "a.tif")
    at_once, _ = slide.thumbnail(64)
    source.asked.clear()
    monkeypatch.setattr("stzoo.core.slides.slide.BAND_PIXELS", 2000)
    banded, scale = slide.thumbnail(64)
    assert np.array_equal(at_once, banded)
    assert scale == 64 / W
    assert max(bottom - top for _, top, _, bottom, _ in source.asked) < H / 4


def test_mpp_is_taken_only_from_trustworthy_metadata(tmp_path: Path) -> None:
    def mpp_of(**options: object) -> float | None:
        tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", **options)
        return Slide.open(tmp_path / "a.tif").mpp

    assert mpp_of(resolution=(20_000, 20_000), resolutionunit="CENTIMETER") == pytest.approx(0.5)
    assert mpp_of(resolution=(72, 72), resolutionunit="INCH") is None
    assert mpp_of(resolution=(28.35, 28.35), resolutionunit="CENTIMETER") is None  # 72 dpi
    assert mpp_of(resolution=(1, 1), resolutionunit="NONE") is None
    assert mpp_of() is None
    aperio = "Aperio Image Library v11.2.1 \r\n250x190 (64x64) |AppMag = 20|MPP = 0.4990|Left = 1.0"
    assert mpp_of(description=aperio, metadata=None) == pytest.approx(0.499)
    tifffile.imwrite(tmp_path / "b.tif", RGB[..., 0], imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    assert Slide.open(tmp_path / "b.tif").mpp == pytest.approx(0.5)
    Image.fromarray(RGB).save(tmp_path / "a.png", dpi=(50_800, 50_800))
    assert Slide.open(tmp_path / "a.png").mpp is None
    assert Slide.open(tmp_path / "a.png", mpp=0.25).mpp == 0.25


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_impossible_metadata_is_refused_unless_overruled(tmp_path: Path, size: float) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", RGB, photometric="rgb", metadata={**OME, "PhysicalSizeX": size, "PhysicalSizeY": size,
                                                                  "PhysicalSizeYUnit": "µm"}
    )  # fmt: skip
    with pytest.raises(UnitsError, match=r"µm/px is .*expected a positive number"):
        Slide.open(tmp_path / "a.ome.tif")
    assert Slide.open(tmp_path / "a.ome.tif", mpp=0.5).mpp == 0.5


def test_pixels_that_are_not_square_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", RGB, photometric="rgb", metadata={**OME, "PhysicalSizeY": 1000})
    with pytest.raises(UnitsError, match=r"not square: 0\.5 x 1\.0"):
        Slide.open(tmp_path / "a.ome.tif")


def test_tiff_that_is_not_one_image(tmp_path: Path) -> None:
    stack = np.zeros((5, 32, 32), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "markers.ome.tif", stack[:4], photometric="minisblack", metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "cmyk.tif", np.zeros((32, 32, 4), np.uint8), photometric="separated")
    for name in ("stack.tif", "markers.ome.tif", "cmyk.tif"):
        with pytest.raises(DataError, match="expected one RGB or gray plane"):
            Slide.open(tmp_path / name)
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((32, 32), np.float32))
    with pytest.raises(DataError, match="float32 pixels, expected 8 or 16 bits"):
        Slide.open(tmp_path / "float.tif")


def test_damaged_tiles_are_an_error_where_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, tissue(256, 256), photometric="rgb", tile=(64, 64), compression="deflate")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[15], file.pages[0].databytecounts[15]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    slide = Slide.open(path)
    assert slide.read(0, 0, 64, 64).shape == (64, 64, 3)
    with pytest.raises(DataError, match="the TIFF is damaged"):
        slide.read(200, 200, 10, 10)
