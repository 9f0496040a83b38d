"""Slide: every file layout reads the pixels that Pillow and tifffile read, at any µm/px."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.slides.base import to_rgb
from stzoo.core.slides.slide import Slide

H, W = 190, 250


def tissue(height: int = H, width: int = W, seed: int = 0) -> np.ndarray:
    """Smooth colour and some noise, so that JPEG keeps it and a shifted or mirrored read is seen."""
    y, x = np.mgrid[:height, :width] / 40
    planes = [np.sin(x * 1.3 + y), np.cos(y * 1.7 - x / 2), np.sin(x * y / 3)]
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    return np.clip(np.stack(planes, axis=-1) * 90 + 140 + noise, 0, 255).astype(np.uint8)


RGB = tissue()
OME = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"}


def whole(slide: Slide) -> np.ndarray:
    return slide.read(0, 0, slide.width, slide.height)


# --- Pillow formats --------------------------------------------------------------------------------------------------


def _rgba() -> Image.Image:
    image = Image.fromarray(RGB).convert("RGBA")
    image.putalpha(Image.fromarray(RGB[..., 0]))
    return image


def _palette_with_transparency() -> Image.Image:
    image = Image.fromarray(RGB).quantize(32)
    image.info["transparency"] = 3
    return image


PILLOW = {
    "rgb.png": lambda: Image.fromarray(RGB),
    "gray.png": lambda: Image.fromarray(RGB[..., 0]),
    "bilevel.png": lambda: Image.fromarray(RGB[..., 0] > 128),
    "gray-alpha.png": lambda: _rgba().convert("LA"),
    "rgba.png": _rgba,
    "palette.png": lambda: Image.fromarray(RGB).quantize(64),
    "palette-transparent.png": _palette_with_transparency,
    "rgb.bmp": lambda: Image.fromarray(RGB),
    "rgb.jpg": lambda: Image.fromarray(RGB),
    "gray.jpg": lambda: Image.fromarray(RGB[..., 0]),
    "cmyk.jpg": lambda: Image.fromarray(RGB).convert("CMYK"),
}


@pytest.mark.parametrize("name", PILLOW)
def test_raster_formats_read_as_pillow_reads_them(tmp_path: Path, name: str) -> None:
    PILLOW[name]().save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        rgba = image.convert("RGBA")
        expected = Image.new("RGBA", image.size, "white")
        expected.alpha_composite(rgba)
    slide = Slide.open(tmp_path / name)
    assert (slide.width, slide.height, slide.mpp) == (W, H, None)
    got = whole(slide)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - np.asarray(expected.convert("RGB"))).max() <= 1
    assert np.array_equal(slide.read(30, 20, 50, 40), got[20:60, 30:80])


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = (RGB[..., 0].astype(np.uint16) * 257).clip(0, 65535)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    for name in ("deep.png", "deep.tif"):
        assert np.array_equal(whole(Slide.open(tmp_path / name)), np.repeat(RGB[..., :1], 3, axis=-1))


def test_orientation_tag_does_not_move_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    Image.fromarray(RGB).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(RGB).save(tmp_path / "plain.jpg", quality=95)
    turned, plain = Slide.open(tmp_path / "turned.jpg"), Slide.open(tmp_path / "plain.jpg")
    assert (turned.width, turned.height) == (W, H)
    assert np.array_equal(whole(turned), whole(plain))
    assert np.array_equal(turned.thumbnail(20)[0], plain.thumbnail(20)[0])


def test_images_of_the_size_of_a_slide_open_without_warning_and_without_global_state(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("1", (20_000, 10_000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slide = Slide.open(tmp_path / "large.png")  # decoded in tests/real
        assert (slide.width, slide.height) == (20_000, 10_000)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_jpeg_thumbnail_is_drafted_and_does_not_depend_on_history(tmp_path: Path) -> None:
    big = np.asarray(Image.fromarray(tissue(100, 125)).resize((1000, 800), Image.Resampling.BICUBIC))
    Image.fromarray(big).save(tmp_path / "a.jpg", quality=95)
    fresh, used = Slide.open(tmp_path / "a.jpg"), Slide.open(tmp_path / "a.jpg")
    full = whole(used)
    small, scale = fresh.thumbnail(100)
    assert fresh._source._pixels is None  # the full image was never decoded
    assert (small.shape, scale) == ((80, 100, 3), 0.1)
    assert np.array_equal(small, used.thumbnail(100)[0])
    mean = full.reshape(80, 10, 100, 10, 3).mean((1, 3))
    assert np.abs(small - mean).mean() < 2.0
    for max_px in (126, 251, 501, 999):
        small, scale = fresh.thumbnail(max_px)
        assert max(small.shape) == max_px
        assert scale == pytest.approx(max_px / 1000)
        assert np.abs(small.mean((0, 1)) - full.mean((0, 1))).max() < 1.0


# --- TIFF ------------------------------------------------------------------------------------------------------------

TIFF = {
    "one-strip": {},
    "plain-strips": {"rowsperstrip": 7},
    "strips": {"rowsperstrip": 7, "compression": "deflate"},
    "lzw-predictor": {"rowsperstrip": 16, "compression": "lzw", "predictor": True},
    "tiles": {"tile": (64, 48)},
    "tiles-zstd-bigtiff": {"tile": (64, 64), "compression": "zstd", "bigtiff": True},
    "big-endian": {"tile": (32, 32), "byteorder": ">"},
    "jpeg-tiles": {"tile": (64, 64), "compression": "jpeg"},
    "jpeg-ycbcr": {"tile": (64, 64), "compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg2000": {"tile": (64, 64), "compression": "jpeg2000"},
}


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


def write_pyramid(path: Path, image: np.ndarray, *, subifds: bool = True, levels: int = 2) -> list[np.ndarray]:
    """Write an OME-TIFF (SubIFDs) or a plain multi-page pyramid; return the levels, area-averaged."""
    made = [image]
    for _ in range(levels):
        last = made[-1][: made[-1].shape[0] // 2 * 2, : made[-1].shape[1] // 2 * 2].astype(float)
        half = last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2, 3).mean((1, 3))
        made.append(np.rint(half).astype(np.uint8))
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}
    with tifffile.TiffWriter(path, ome=subifds, bigtiff=subifds) as out:
        out.write(image, subifds=levels if subifds else None, metadata=OME if subifds else None, **options)
        for level in made[1:]:
            out.write(level, subfiletype=1, metadata=None, **options)
    return made


@pytest.mark.parametrize("subifds", [True, False])
def test_pyramids_use_the_nearest_finer_level(tmp_path: Path, subifds: bool) -> None:
    path = tmp_path / "pyramid.ome.tif"
    image = tissue(512, 640)
    made = write_pyramid(path, image, subifds=subifds)
    slide = Slide.open(path, mpp=None if subifds else 0.5)
    assert slide.mpp == 0.5
    assert slide._source.shapes == [level.shape[:2] for level in made]
    for level, mpp in enumerate((0.5, 1.0, 2.0)):
        assert np.array_equal(slide.read(0, 0, 640, 512, mpp=mpp), made[level])
    read = []
    slide._source.region = lambda level, *box, region=slide._source.region: read.append(level) or region(level, *box)
    slide.tiles([[300, 200]], size_px=32, mpp=1.9)
    slide.tiles([[300, 200]], size_px=32, mpp=0.7)
    slide.thumbnail(100)
    assert read == [1, 0, 2]


def test_reading_is_bounded_by_the_request_and_tiles_are_shared(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", tissue(1024, 1024), photometric="rgb", tile=(64, 64), compression="deflate")
    slide = Slide.open(tmp_path / "a.tif", mpp=0.5)
    decoded = []
    slide._source._decode = lambda *key, decode=slide._source._decode: decoded.append(key) or decode(*key)
    slide.tiles([[128, 128], [128, 128], [140, 130]], size_px=64, mpp=0.5)
    assert len(decoded) == len(set(decoded)) <= 9


def test_thumbnail_of_a_tiff_without_pyramid_goes_band_by_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(32, 32))
    slide = Slide.open(tmp_path / "a.tif")
    at_once, _ = slide.thumbnail(64)
    monkeypatch.setattr("stzoo.core.slides.slide.BAND_PIXELS", 2000)
    heights = []
    region = slide._source.region
    slide._source.region = lambda level, *box: heights.append(box[2] - box[0]) or region(level, *box)
    banded, scale = slide.thumbnail(64)
    assert np.array_equal(at_once, banded)
    assert scale == 64 / W
    assert max(heights) < H / 4


# --- µm/px -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("mpp", [0, -0.5, float("nan"), float("inf")])
def test_impossible_mpp_is_refused(mpp: float) -> None:
    with pytest.raises(UnitsError, match="expected a positive number"):
        Slide.from_array(RGB, mpp=mpp)
    slide = Slide.from_array(RGB, mpp=0.5)
    with pytest.raises(UnitsError, match="expected a positive number"):
        slide.with_mpp(mpp)
    with pytest.raises(UnitsError, match="expected a positive number"):
        slide.read(0, 0, 10, 10, mpp=mpp)


def test_a_target_needs_known_units() -> None:
    slide = Slide.from_array(RGB)
    assert np.array_equal(slide.read(3, 4, 10, 10), RGB[4:14, 3:13])
    for call in (lambda: slide.read(0, 0, 9, 9, mpp=0.5), lambda: slide.tiles([[9, 9]], size_px=8, mpp=0.5)):
        with pytest.raises(UnitsError, match="has no µm/px"):
            call()
    assert slide.with_mpp(1.0).read(0, 0, 20, 20, mpp=2.0).shape == (10, 10, 3)


# --- resampling ------------------------------------------------------------------------------------------------------


def test_twice_coarser_is_the_area_average() -> None:
    slide = Slide.from_array(RGB, mpp=0.5)
    tile = slide.tiles([[100, 80]], size_px=40, mpp=1.0)[0]
    mean = RGB[40:120, 60:140].reshape(40, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(tile - mean).max() <= 0.5


@given(
    factor=st.floats(1.0, 6.0), x=st.floats(0, 40), y=st.floats(0, 40), rows=st.integers(1, 20),
    columns=st.integers(1, 20),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_ratio_is_the_area_average(factor: float, x: float, y: float, rows: int, columns: int) -> None:
    """Against an independent reference: integrals of the cumulative sum, interpolated between pixels."""
    image = RGB[:180, :200]
    integral = np.zeros((181, 201, 3))
    integral[1:, 1:] = image.astype(float).cumsum(0).cumsum(1)
    ys, xs = y + factor * np.arange(rows + 1), x + factor * np.arange(columns + 1)
    along = np.stack([[np.interp(ys, np.arange(181), integral[:, j, c]) for j in range(201)] for c in range(3)], -1)
    both = np.stack([[np.interp(xs, np.arange(201), along[:, i, c]) for i in range(rows + 1)] for c in range(3)], -1)
    mean = (both[1:, 1:] - both[:-1, 1:] - both[1:, :-1] + both[:-1, :-1]) / factor**2
    got = Slide.from_array(image, mpp=0.5).read(x, y, columns * factor, rows * factor, mpp=0.5 * factor)
    assert got.shape == (rows, columns, 3)
    assert np.abs(got - mean).max() <= 0.51


def test_the_same_tissue_at_two_resolutions_gives_the_same_tile() -> None:
    def drawn(mpp: float) -> Slide:
        side = round(69 / mpp)
        um = (np.arange(side * 8) + 0.5) * mpp / 8
        y, x = np.meshgrid(um, um, indexing="ij")
        stripes = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 9)], axis=-1) * 100 + 128
        pixels = stripes.reshape(side, 8, side, 8, 3).mean((1, 3))
        return Slide.from_array(np.rint(pixels).astype(np.uint8), mpp=mpp)

    fine, coarse = drawn(0.4), drawn(0.69)
    um = np.array([[30.3, 31.9], [34.5, 40.0]])
    a = fine.tiles(um / fine.mpp, size_px=40, mpp=1.0).astype(float)
    b = coarse.tiles(um / coarse.mpp, size_px=40, mpp=1.0).astype(float)
    assert np.abs(a - b).max() < 4
    assert np.abs(a - b).mean() < 1


def test_finer_is_bilinear_and_seamless() -> None:
    slide = Slide.from_array(RGB, mpp=1.0)
    once = slide.read(20, 20, 40, 40, mpp=0.25)
    left, right = slide.read(20, 20, 20, 40, mpp=0.25), slide.read(40, 20, 20, 40, mpp=0.25)
    assert np.array_equal(once, np.concatenate([left, right], axis=1))
    wide = np.asarray(Image.fromarray(RGB).resize((W * 4, H * 4), Image.Resampling.BILINEAR))
    assert np.abs(once.astype(int) - wide[80:240, 80:240]).max() <= 1


def test_outside_is_white() -> None:
    slide = Slide.from_array(RGB, mpp=0.5)
    corner = slide.read(-10, -20, 30, 40)
    assert (corner[:20] == 255).all()
    assert (corner[:, :10] == 255).all()
    assert np.array_equal(corner[20:, 10:], RGB[:20, :20])
    assert (slide.read(W + 5, 0, 10, 10) == 255).all()
    assert (slide.tiles([[-500, -500]], size_px=8, mpp=1.0) == 255).all()
    far = slide.read(W - 10, H - 10, 20, 20, mpp=1.0)
    assert (far[5:] == 255).all()
    assert (far[:, 5:] == 255).all()


def test_a_reduced_copy_keeps_full_resolution_positions() -> None:
    small = RGB.reshape(H // 2, 2, W // 2, 2, 3).mean((1, 3)).astype(np.uint8)
    slide = Slide.from_array(small, mpp=0.5, scale=0.5)
    assert (slide.width, slide.height) == (W, H)
    assert np.array_equal(slide.read(20, 40, 80, 60, mpp=1.0), small[20:50, 10:50])
    thumbnail, scale = slide.thumbnail(10_000)
    assert np.array_equal(thumbnail, small)
    assert scale == 0.5


def test_what_is_returned_may_be_changed() -> None:
    slide = Slide.from_array(RGB.copy(), mpp=0.5)
    slide.read(0, 0, 10, 10)[:] = 0
    slide.thumbnail(1000)[0][:] = 0
    assert np.array_equal(whole(slide), RGB)


@pytest.mark.parametrize("box", [(0, 0, 0, 10), (0, 0, 10, -1), (float("nan"), 0, 5, 5), (0, 0, float("inf"), 5)])
def test_impossible_regions_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(DataError, match="can not read a region"):
        Slide.from_array(RGB).read(*box)


def test_impossible_tiles_are_refused() -> None:
    slide = Slide.from_array(RGB, mpp=1.0)
    with pytest.raises(DataError, match=r"centre 1 is \[nan, 3\.0\]"):
        slide.tiles([[1, 2], [np.nan, 3]], size_px=4, mpp=1.0)
    with pytest.raises(DataError, match="shape"):
        slide.tiles([1.0, 2.0], size_px=4, mpp=1.0)
    with pytest.raises(DataError, match="tiles of 0 px"):
        slide.tiles([[1, 2]], size_px=0, mpp=1.0)
    with pytest.raises(DataError, match="thumbnail of 0 px"):
        slide.thumbnail(0)
    assert slide.tiles(np.empty((0, 2)), size_px=4, mpp=1.0).shape == (0, 4, 4, 3)


# --- pickling, threads, processes ------------------------------------------------------------------------------------


def _one_tile(slide: Slide) -> np.ndarray:
    return slide.tiles([[90, 80]], size_px=32, mpp=0.7)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", None])
def test_pickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    if name is None:
        slide = Slide.from_array(RGB, mpp=0.5)
    else:
        Image.fromarray(RGB).save(name)
        slide = Slide.open(name, mpp=0.5)
    whole(slide)
    data = pickle.dumps(slide)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # a relative path must not depend on where the worker runs
    again = pickle.loads(data)
    assert name is None or len(data) < 2000
    assert np.array_equal(_one_tile(slide), _one_tile(again))
    assert again.path == slide.path


def test_a_file_that_went_away_is_an_error_when_unpickled(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    data = pickle.dumps(Slide.open(tmp_path / "a.png"))
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="no such image"):
        pickle.loads(data)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_threads_read_what_one_reads(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(tissue(600, 600))
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "a.tif", np.asarray(image), photometric="rgb", tile=(64, 64), compression="deflate")
    else:
        image.save(tmp_path / "a.jpg")
    places = np.random.default_rng(0).uniform(50, 550, (60, 1, 2))
    alone = Slide.open(tmp_path / f"a.{suffix}", mpp=0.5)
    shared = Slide.open(tmp_path / f"a.{suffix}", mpp=0.5)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda place: shared.tiles(place, size_px=40, mpp=0.6), places))
    for place, tile in zip(places, together, strict=True):
        assert np.array_equal(alone.tiles(place, size_px=40, mpp=0.6), tile)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_read_what_one_reads(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(32, 32), compression="deflate")
    slide = Slide.open(tmp_path / "a.tif", mpp=0.5)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for tile in pool.map(_one_tile, [slide] * 6):
            assert np.array_equal(tile, _one_tile(slide))


# --- broken files ----------------------------------------------------------------------------------------------------


def test_what_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such image"):
        Slide.open(tmp_path / "absent.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        Slide.open(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("x\ty\n1\t2\n")
    with pytest.raises(DataError, match="not an image that stzoo reads"):
        Slide.open(tmp_path / "text.jpg")
    with pytest.raises(DataError, match="can not read the image"):
        Slide.open(tmp_path)
    for head in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM12345678", b"II*\0\x08\0\0\0", b"II+\0\x08\0\0\0"):
        (tmp_path / "head.bin").write_bytes(head)
        with pytest.raises(DataError, match=r"not a readable|truncated"):
            Slide.open(tmp_path / "head.bin")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "a.png", "strips.tif", "tiles.tif", "raw.tif", "ome.tif"])
def test_truncated_files_never_give_pixels(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    image = tissue(400, 500)
    if name.endswith((".jpg", ".png")):
        Image.fromarray(image).save(path, progressive=name.startswith("prog"))
    elif name == "ome.tif":
        write_pyramid(path, image)
    else:
        layout = {"strips": "strips", "tiles": "jpeg-tiles", "raw": "tiles"}[path.stem]
        tifffile.imwrite(path, image, **{"photometric": "rgb", **TIFF[layout]})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"truncated|damaged|not a readable"):
        whole(Slide.open(path))
    with pytest.raises(DataError, match=r"truncated|damaged|not a readable"):
        Slide.open(path).thumbnail(50)


def test_a_truncated_jpeg_with_a_forged_end_or_a_hole_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(tissue(400, 500)).save(path)
    data = path.read_bytes()
    half = data[: len(data) // 2]
    for broken in (half + b"\xff\xd9", half + bytes(len(half))):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"damaged|truncated"):
            whole(Slide.open(path))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # another library may have set it
    path.write_bytes(half)
    with pytest.raises(DataError, match="truncated"):
        whole(Slide.open(path))


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


@given(st.sampled_from(["a.png", "a.jpg", "a.tif"]), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_give_pixels_or_an_error_of_ours(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = tmp_path / name
    if not path.exists():
        image = tissue(40, 50)
        if name == "a.tif":
            tifffile.imwrite(path, image, photometric="rgb", tile=(16, 16), compression="deflate")
        else:
            Image.fromarray(image).save(path)
    content = bytearray(path.read_bytes())
    places = st.one_of(st.integers(0, 400), st.integers(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        content[min(place, len(content) - 1)] = value
    (tmp_path / f"broken-{name}").write_bytes(content)
    with contextlib.suppress(DataError):
        slide = Slide.open(tmp_path / f"broken-{name}")
        if slide.width * slide.height < 1e6:
            assert whole(slide).shape == (slide.height, slide.width, 3)


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


def test_arrays_that_are_not_rgb() -> None:
    for wrong in (RGB[..., 0], RGB.astype(float), RGB[:0], np.dstack([RGB, RGB])):
        with pytest.raises(DataError, match="expected pixels uint8"):
            Slide.from_array(wrong)
    with pytest.raises(DataError, match="float64"):
        to_rgb(RGB.astype(float))
    with pytest.raises(DataError, match="expected gray, RGB or RGBA"):
        to_rgb(RGB[..., :2])


def test_whole_slide_formats_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "a.mrxs").write_bytes(b"x")
    for library in ("openslide", "tiffslide"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError, match=r"stzoo\[wsi\]"):
        Slide.open(tmp_path / "a.mrxs")


@pytest.mark.parametrize("library", ["openslide", "tiffslide"])
def test_whole_slide_libraries_read_what_tifffile_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    import sys

    pytest.importorskip(library, reason="the extra 'wsi' is not installed")
    if library == "tiffslide":
        monkeypatch.setitem(sys.modules, "openslide", None)
    image = tissue(512, 640)
    made = write_pyramid(tmp_path / "a.scn", image, subifds=False)
    slide = Slide.open(tmp_path / "a.scn", mpp=0.5)
    assert [tuple(shape) for shape in slide._source.shapes] == [level.shape[:2] for level in made]
    assert np.array_equal(slide.read(100, 50, 80, 60), image[50:110, 100:180])
    assert np.array_equal(slide.read(0, 0, 640, 512, mpp=1.0), made[1])
    (tmp_path / "b.scn").write_bytes(b"not a slide")
    with pytest.raises(DataError, match=f"{library} can not read the slide"):
        Slide.open(tmp_path / "b.scn")
