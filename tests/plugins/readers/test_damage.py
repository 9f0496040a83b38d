"""Files cut off, flipped or replaced, in every layout: a message for the user, or (where nothing shows) a section."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest
from stzoo.core.errors import StzooError
from stzoo.core.io.read import read, sections
from stzoo.core.io.write import write

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "her2st": layouts.her2st,
    "paste": layouts.paste,
    "visium": layouts.visium,
    "visium, mex and old positions": lambda path: layouts.visium(path, matrix="mtx", positions="old"),
    "visium hd": lambda path: layouts.visium_hd(path, (8,)),
    "xenium": lambda path: layouts.xenium(path / "run"),
    "xenium, csv and mex": lambda path: layouts.xenium(path / "run", cells="cells.csv.gz", matrix="mtx"),
    "cells csv": lambda path: layouts.cells_csv(path / "cells.csv.gz"),
    "h5ad": lambda path: layouts.h5ad(path / "a.h5ad"),
    "zarr": lambda path: write(read(layouts.her2st(path / "set")), path / "a.zarr"),
}


def damaged(data: bytes, rng: random.Random) -> list[bytes]:
    """Return ways to spoil a file: nothing left, cut off, one byte and many flipped, noise."""
    flipped = []
    for times in (1, 1, 20):
        changed = bytearray(data)
        for _ in range(times):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        flipped.append(bytes(changed))
    return [b"", data[: len(data) // 2], data[:-1], *flipped, rng.randbytes(200)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_damage_is_never_a_bug(tmp_path, name):
    path = LAYOUTS[name](tmp_path / "data")
    rng = random.Random(name)
    files = sorted(f for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file() and f.stat().st_size)
    refused: list[str] = []
    for file in rng.sample(files, min(len(files), 8)):
        whole = file.read_bytes()
        for content in damaged(whole, rng):
            file.write_bytes(content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    slide = read(f"{path}::{sections(path)[0]}").slide
                    if slide is not None:
                        slide.thumbnail(50)
            except StzooError as error:
                refused.append(str(error))
        file.write_bytes(whole)
    assert len(refused) > 3
    assert [text for text in refused if str(tmp_path) not in text] == []  # every message names the file
    assert read(f"{path}::{sections(path)[0]}").n_spots > 0
