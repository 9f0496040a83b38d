"""Slide: regions, tiles and thumbnails at any µm/px, from one thread or many."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import RGB, H, W, tissue, whole
from PIL import Image
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.slides.base import to_rgb
from stzoo.core.slides.slide import Slide


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


def test_arrays_that_are_not_rgb() -> None:
    for wrong in (RGB[..., 0], RGB.astype(float), RGB[:0], np.dstack([RGB, RGB])):
        with pytest.raises(DataError, match="expected pixels uint8"):
            Slide.from_array(wrong)
    with pytest.raises(DataError, match="float64"):
        to_rgb(RGB.astype(float))
    with pytest.raises(DataError, match="expected gray, RGB or RGBA"):
        to_rgb(RGB[..., :2])


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
