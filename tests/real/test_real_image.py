"""Slide on a real H&E section: her2st C5, a JPEG of 92 million pixels."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from recording import RecordingJpeg
from stzoo.core.errors import DataError
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.tile_cache import Spots, cache_rows, tile_rows

MPP = 0.69
CENTRES = np.array([[3000.5, 4000.25], [5200.0, 3100.0], [150.0, 9850.0]])


@pytest.fixture(scope="module")
def path(shared_data: Path) -> Path:
    return shared_data / "her2st" / "images" / "C5.jpg"


@pytest.fixture(scope="module")
def slide(path: Path) -> Slide:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Slide.open(path, mpp=MPP)


@pytest.fixture(scope="module")
def reference(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return np.asarray(Image.open(path))


def test_pixels_are_those_of_pillow_and_no_limit_is_touched(slide: Slide, reference: np.ndarray) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = slide.read(4000, 3000, 800, 700)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert np.array_equal(got, reference[3000:3700, 4000:4800])
    assert (slide.width, slide.height) == reference.shape[1::-1]


def test_a_thumbnail_needs_a_hundredth_of_the_image(path: Path, reference: np.ndarray) -> None:
    source = RecordingJpeg(path)
    fresh = Slide(source, path=path, mpp=MPP)
    tracemalloc.start()
    small, scale = fresh.thumbnail(1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.asked == []  # which would have decoded the whole image
    assert peak < 60 * 2**20  # the decoded image has 263 MiB
    expected = Image.fromarray(reference).resize(small.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(small.astype(int) - np.asarray(expected)).mean() < 2.5
    assert scale == pytest.approx(1000 / 9901)


def test_the_same_tile_from_jpeg_tiled_tiff_and_pyramid(slide: Slide, reference: np.ndarray, tmp_path: Path) -> None:
    part = np.ascontiguousarray(reference[2000:5072, 2000:6096])
    even = part.reshape(1536, 2, 2048, 2, 3).mean((1, 3)).round().astype(np.uint8)
    options = {"photometric": "rgb", "tile": (256, 256), "compression": "deflate"}
    with tifffile.TiffWriter(tmp_path / "part.ome.tif", ome=True) as out:
        sizes = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
        out.write(part, subifds=1, metadata=sizes, **options)
        out.write(even, subfiletype=1, **options)
    tiff = Slide.open(tmp_path / "part.ome.tif")
    assert tiff.mpp == MPP
    for mpp in (0.5, MPP, 1.0):  # read from the full resolution in both
        a = slide.tiles(CENTRES[:2], size_px=128, mpp=mpp)
        assert np.array_equal(a, tiff.tiles(CENTRES[:2] - 2000, size_px=128, mpp=mpp))
    for mpp in (2 * MPP, 2.0):  # from the stored half resolution in the pyramid, whose blocks the tile cuts
        a = slide.tiles(CENTRES[:2], size_px=128, mpp=mpp).astype(int)
        assert np.abs(a - tiff.tiles(CENTRES[:2] - 2000, size_px=128, mpp=mpp)).mean() < 3
    aligned = [[3000, 4000]]
    a = slide.tiles(aligned, size_px=128, mpp=2 * MPP).astype(int)
    assert np.abs(a - tiff.tiles(np.array(aligned) - 2000, size_px=128, mpp=2 * MPP)).max() <= 1


def test_tiles_beyond_the_border_are_white(slide: Slide) -> None:
    tile = slide.tiles(CENTRES[2:], size_px=512, mpp=1.0)[0]
    assert (tile[:, :20] == 255).all()
    assert (tile[-100:] == 255).all()


def test_a_truncated_copy_is_refused(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="truncated"):
        Slide.open(tmp_path / "half.jpg")
    (tmp_path / "forged.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    forged = Slide.open(tmp_path / "forged.jpg", mpp=MPP)
    for call in (lambda: forged.thumbnail(500), lambda: forged.tiles(CENTRES, size_px=64, mpp=1.0)):
        with pytest.raises(DataError, match="lower part is missing"):
            call()


def test_the_training_cache_holds_the_tiles_of_real_tissue(slide: Slide, tmp_path: Path) -> None:
    rows = cache_rows(tmp_path, [Spots("C5", slide, CENTRES)], tile_rows(112, 2.0))
    np.testing.assert_array_equal(rows[[0, 1, 2]], slide.tiles(CENTRES, size_px=112, mpp=2.0))
