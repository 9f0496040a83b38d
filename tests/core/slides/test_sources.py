"""JPEG, PNG, BMP and whole-slide files read as Pillow and tifffile read them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pictures import RGB, H, W, tissue, whole, write_pyramid
from PIL import Image
from recording import RecordingJpeg
from stzoo.core.errors import DataError
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.sources import open_source


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
    source = RecordingJpeg(tmp_path / "a.jpg")
    fresh, used = Slide(source, path=tmp_path / "a.jpg"), Slide.open(tmp_path / "a.jpg")
    full = whole(used)
    small, scale = fresh.thumbnail(100)
    assert source.asked == []  # the full image was never decoded
    assert source.coarse_shapes == [(100, 125)]
    assert (small.shape, scale) == ((80, 100, 3), 0.1)
    assert np.array_equal(small, used.thumbnail(100)[0])
    mean = full.reshape(80, 10, 100, 10, 3).mean((1, 3))
    assert np.abs(small - mean).mean() < 2.0
    for max_px in (126, 251, 501, 999):
        small, scale = fresh.thumbnail(max_px)
        assert max(small.shape) == max_px
        assert scale == pytest.approx(max_px / 1000)
        assert np.abs(small.mean((0, 1)) - full.mean((0, 1))).max() < 1.0


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
    assert [tuple(shape) for shape in open_source(tmp_path / "a.scn").shapes] == [level.shape[:2] for level in made]
    assert np.array_equal(slide.read(100, 50, 80, 60), image[50:110, 100:180])
    assert np.array_equal(slide.read(0, 0, 640, 512, mpp=1.0), made[1])
    (tmp_path / "b.scn").write_bytes(b"not a slide")
    with pytest.raises(DataError, match=f"{library} can not read the slide"):
        Slide.open(tmp_path / "b.scn")
