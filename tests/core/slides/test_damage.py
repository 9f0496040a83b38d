"""Image files cut off, forged or flipped give an error of ours, and never pixels that are wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import TIFF, tissue, whole, write_pyramid
from PIL import Image, ImageFile
from stzoo.core.errors import DataError
from stzoo.core.slides.slide import Slide


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
