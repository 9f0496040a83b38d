"""The training cache: what is in it, that a kill or a full disk spoils nothing, and that it is never silently wrong."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cache_run
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from stzoo.core.errors import DataError, OutputError
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.tile_cache import (
    Kind,
    Spots,
    along_a_curve,
    cache_folder,
    cache_rows,
    drop_own_cache,
    tile_rows,
)

SCRIPT = Path(cache_run.__file__)


def write_slide(path, side, seed=0):
    """Write a tiled JPEG TIFF block by block, so that the test holds no slide either."""
    rng = np.random.default_rng(seed)
    block = np.kron(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), np.ones((16, 16, 1), dtype=np.uint8))

    def blocks():
        for k in range((side // 256) ** 2):
            yield np.roll(block, 7 * k, axis=0)

    tifffile.imwrite(
        path, blocks(), shape=(side, side, 3), dtype=np.uint8, photometric="rgb", tile=(256, 256), compression="jpeg"
    )
    return path


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "small.tif", 1024)


def tiles_of(some):
    return some.slide.tiles(some.centres, size_px=cache_run.SIZE_PX, mpp=cache_run.MPP)


def cached(folder, some, **options):
    return cache_rows(folder, some, tile_rows(cache_run.SIZE_PX, cache_run.MPP), **options)


class Counting(Slide):
    """A slide that counts the tiles that are read of it."""

    read_tiles = 0

    def tiles(self, centres, **options):
        Counting.read_tiles += len(centres)
        return super().tiles(centres, **options)


@pytest.fixture
def counted(slide_file):
    Counting.read_tiles = 0
    places = cache_run.spots(slide_file, 90).centres
    return Spots("counted", Counting.open(slide_file, mpp=0.5), places)


def test_rows_are_the_tiles_of_all_slides_in_the_order_of_the_spots(tmp_path, slide_file):
    pixels = np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    memory = Spots("memory", Slide.from_array(pixels, mpp=1.0), np.array([[50.0, 60.5], [399.0, 0.0], [200.0, 150.0]]))
    told = []
    both = [cache_run.spots(slide_file, 50), memory]
    rows = cached(tmp_path, both, progress=lambda done, total: told.append((done, total)))
    want = np.concatenate([tiles_of(some) for some in both])
    assert len(rows) == 53
    np.testing.assert_array_equal(rows[np.arange(53)], want)
    np.testing.assert_array_equal(rows[[52, 3, 3]], want[[52, 3, 3]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows))[[51]], want[[51]])
    np.testing.assert_array_equal(np.load(rows.folder / "rows.npy", mmap_mode="r"), want)  # a plain array for anyone
    assert told[-1] == (53, 53)


def test_a_second_run_reads_no_slide(tmp_path, counted):
    first = cached(tmp_path, [counted])
    assert Counting.read_tiles == 90
    again = cached(tmp_path, [counted])
    assert Counting.read_tiles == 90
    np.testing.assert_array_equal(first[np.arange(90)], again[np.arange(90)])


@pytest.mark.parametrize("change", ["place", "mpp of the slide", "size", "target", "note", "slide", "pixels"])
def test_another_request_is_another_cache(tmp_path, slide_file, change):
    path = tmp_path / "slide.tif"
    path.write_bytes(slide_file.read_bytes())
    some, kind, about = cache_run.spots(path, 20), tile_rows(64, 1.0), {"views": 1}
    before = cache_rows(tmp_path, [some], kind, about=about)
    old = before[np.arange(20)]
    if change == "place":
        some = Spots(some.name, some.slide, some.centres + np.array([0.0, 1e-9]))
    elif change == "mpp of the slide":
        some = Spots(some.name, some.slide.with_mpp(0.25), some.centres)
    elif change == "size":
        kind = tile_rows(32, 1.0)
    elif change == "target":
        kind = tile_rows(64, 2.0)
    elif change == "note":
        about = {"views": 2}
    elif change == "slide":
        write_slide(path, 1024, seed=5)
        some = cache_run.spots(path, 20)
    else:
        pixels = np.zeros((100, 100, 3), dtype=np.uint8)
        before = cache_rows(tmp_path, [Spots("a", Slide.from_array(pixels, mpp=1.0), some.centres)], kind)
        pixels[99, 99] = 1
        some, about = Spots("a", Slide.from_array(pixels, mpp=1.0), some.centres), {}
    after = cache_rows(tmp_path, [some], kind, about=about)
    assert after.folder != before.folder
    np.testing.assert_array_equal(
        after[np.arange(20)], some.slide.tiles(some.centres, size_px=kind.shape[0], mpp=kind.about["mpp"])
    )
    if change not in ("pixels", "slide"):
        np.testing.assert_array_equal(before[np.arange(20)], old)


def test_a_changed_byte_is_refused_when_its_row_is_read(tmp_path, counted):
    rows = cached(tmp_path, [counted])
    with (rows.folder / "rows.npy").open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        byte = file.read(1)
        file.seek(-10, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    again = cached(tmp_path, [counted])
    again[np.arange(89)]
    with pytest.raises(DataError, match=r"row 89 is damaged(.|\n)*remove"):
        again[[89]]


@pytest.mark.parametrize("name", ["rows.npy", "sums.npy", "about.json"])
@pytest.mark.parametrize("fault", ["cut", "gone", "other"])
def test_a_damaged_folder_is_filled_anew(tmp_path, counted, name, fault):
    file = cached(tmp_path, [counted]).folder / name
    if fault == "gone":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    elif name == "about.json":
        file.write_text(json.dumps({**json.loads(file.read_text()), "size_px": 65}))
    else:
        np.save(file, np.zeros((3, 3)))
    rows = cached(tmp_path, [counted])
    assert Counting.read_tiles == 180
    np.testing.assert_array_equal(rows[np.arange(90)], tiles_of(counted))


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_kill_9_at_any_moment_and_go_on(tmp_path, slide_file):
    # the processes to be killed record every block, not only 64 MiB of them
    (tmp_path / "sitecustomize.py").write_text("import stzoo.core.runtime.row_file as r\nr.PENDING_BYTES = 1\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, SCRIPT, tmp_path / "cache", slide_file, "200", "0.1"]
    shares = []
    for wanted in (20, 60):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and done(tmp_path / "cache") < wanted:
            time.sleep(0.003)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        shares.append(done(tmp_path / "cache"))
    assert shares[0] < shares[1] < 200, shares
    some = cache_run.spots(slide_file, 200)
    counted = Spots(some.name, Counting.open(slide_file, mpp=0.5), some.centres)
    Counting.read_tiles = 0
    rows = cached(tmp_path / "cache", [counted])
    assert Counting.read_tiles <= 200 - shares[1] + 15  # what was recorded is not read again, but for a block cut short
    whole = cached(tmp_path / "whole", [some])
    for name in ("rows.npy", "sums.npy", "about.json"):
        assert (rows.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert sum(1 for place in (tmp_path / "cache").iterdir() if place.is_dir()) == 1


def done(cache):
    sums = next(iter(cache.glob("tiles-*/sums.npy")), None) if cache.exists() else None
    return int((np.load(sums) != 0).sum()) if sums else 0


def test_processes_that_want_one_cache_at_once_take_turns(tmp_path, slide_file):
    command = [sys.executable, SCRIPT, tmp_path, slide_file, "60", "0.05"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    some = cache_run.spots(slide_file, 60)
    np.testing.assert_array_equal(cached(tmp_path, [some])[np.arange(60)], tiles_of(some))


def test_a_full_disk_is_told_before_any_work_and_leaves_nothing(tmp_path, counted):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OutputError, match=r"\(1.1 MB\)(.|\n)*make room"):
            cached(tmp_path, [counted])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Counting.read_tiles == 0
    assert not [place for place in tmp_path.iterdir() if place.is_dir()]


def test_a_slide_that_is_damaged_half_way_keeps_what_was_read(tmp_path, counted):
    tiles = tile_rows(64, 1.0)

    def read(slide, centres):
        if Counting.read_tiles > 40:
            raise DataError("the slide is damaged")
        return tiles.read(slide, centres)

    with pytest.raises(DataError, match="damaged"):
        cache_rows(tmp_path, [counted], Kind(tiles.about, tiles.shape, tiles.dtype, read))
    before, Counting.read_tiles = Counting.read_tiles, 0
    cache_rows(tmp_path, [counted], tiles)
    assert 0 < Counting.read_tiles <= 90 - before + 32


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_slide(tmp_path):
    raised = []
    for side in (8192, 16384):
        path = write_slide(tmp_path / f"{side}.tif", side)
        command = [sys.executable, SCRIPT, tmp_path / "cache", path, "400"]
        raised.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024)
    pixels = 16384**2 * 3 / 2**20
    assert raised[1] < 120 < pixels / 4, raised  # decoded tiles that are kept are at most 64 MiB
    assert raised[1] < raised[0] + 20, raised


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), max_size=50))
def test_the_curve_visits_every_place_once(places):
    centres = np.array(places, dtype=np.float64).reshape(-1, 2)
    assert sorted(along_a_curve(centres)) == list(range(len(places)))


def test_the_curve_goes_from_neighbour_to_neighbour():
    grid = np.stack(np.meshgrid(np.arange(32), np.arange(32)), axis=-1).reshape(-1, 2).astype(float)
    shuffled = np.random.default_rng(0).permutation(grid)
    along = shuffled[along_a_curve(shuffled)]
    assert np.abs(np.diff(along, axis=0)).sum(axis=1).max() == 1


def test_where_caches_are(tmp_path, monkeypatch):
    monkeypatch.delenv("STZOO_CACHE", raising=False)
    assert cache_folder(tmp_path / "run") == tmp_path / "run" / "cache"
    (tmp_path / "run" / "cache").mkdir(parents=True)
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    assert cache_folder(tmp_path / "run") == tmp_path / "shared"
    drop_own_cache(tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()
    assert (tmp_path / "shared").exists()
