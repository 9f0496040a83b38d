"""S2S-ST: what is read of a section, windows over it, natural images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from stzoo.core.errors import ConfigError, DataError
from stzoo.plugins.s2s_st.cdcin.canvas import Canvas
from stzoo.plugins.s2s_st.cdcin.sampling import ScatteredSampling, StridedSampling, decimate, fill_nearest
from stzoo.plugins.s2s_st.cdcin.windows import (
    augment,
    average_windows,
    choose_window_side,
    cut_windows,
    find_inference_corners,
    find_training_corners,
)
from stzoo.plugins.s2s_st.images import NaturalImages, cut_turned_centre


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def grids(shape, stride=2, phase=(0, 0), genes=2, occupied=None):
    """Maps whose value is the place; NaN where hidden or empty."""
    occupied = np.ones(shape, dtype=bool) if occupied is None else occupied
    measured = np.zeros(shape, dtype=bool)
    a, b = phase
    measured[a::stride, b::stride] = occupied[a::stride, b::stride]
    maps = np.arange(1, genes * np.prod(shape) + 1, dtype=np.float32).reshape(genes, *shape)
    maps[:, ~measured] = np.nan
    return maps, occupied, measured


@pytest.mark.parametrize(
    ("largest", "stride", "shape", "side"),
    [
        (64, 2, (88, 104), 64),
        (64, 2, (52, 77), 52),
        (64, 2, (33, 90), 36),
        (64, 3, (88, 104), 63),
        (64, 4, (40, 60), 48),
        (64, 1, (30, 60), 32),
        (34, 2, (9, 9), 12),
    ],
)
def test_the_side_of_windows(largest, stride, shape, side):
    assert choose_window_side(largest, stride, shape) == side


def test_a_window_below_two_levels_is_refused():
    with pytest.raises(ConfigError, match="give 16"):
        choose_window_side(12, 4, (40, 40))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("phase", [(0, 0), (1, 0), (2, 1)])
def test_a_canvas_holds_the_measured_places_and_no_others(phase, whole):
    maps, occupied, measured = grids((20, 23), 3, phase)
    canvas = Canvas.of(maps, occupied, measured, (3, phase), 9, whole=whole)
    assert set(canvas.values[:, canvas.known].flatten().tolist()) == set(maps[:, measured].flatten().tolist())
    assert (canvas.values[:, ~canvas.known] == 0).all()
    top, left = canvas.offset
    full = np.zeros(canvas.occupied.shape, dtype=bool)
    if whole:
        full[top : top + 20, left : left + 23] = True
    else:
        full[: 20 + top, : 23 + left] = True
    np.testing.assert_array_equal(canvas.occupied.numpy(), full)


def test_a_measured_value_that_is_missing_is_an_error():
    maps, occupied, measured = grids((8, 8))
    maps[1, 2, 4] = np.nan
    with pytest.raises(DataError, match="row 1, column 2"):
        Canvas.of(maps, occupied, measured, (2, (0, 0)), 4)
    with pytest.raises(DataError, match="holds no spot"):
        Canvas.of(maps, occupied & False, measured, (2, (0, 0)), 4)
    with pytest.raises(DataError, match="different shapes"):
        Canvas.of(maps[:, :-1], occupied, measured, (2, (0, 0)), 4)


def test_training_windows_are_more_than_half_full_and_reach_the_last_row_and_column():
    occupied = np.zeros((20, 20), dtype=bool)
    occupied[:, 10:] = True
    canvas = Canvas.of(*grids((20, 20), occupied=occupied), (2, (0, 0)), 8)
    corners = set(map(tuple, find_training_corners(canvas).tolist()))
    assert corners == {(i, j) for i in range(7) for j in (4, 5, 6)}  # from columns 8, 10, 12; column 6 is half full


def test_where_no_window_is_half_full_the_fullest_ones_are_taken():
    occupied = np.zeros((20, 20), dtype=bool)
    occupied[::2, ::2] = True
    canvas = Canvas.of(*grids((20, 20), occupied=occupied), (2, (0, 0)), 8)
    assert len(find_training_corners(canvas)) == 49
    occupied[:] = False
    occupied[0, 0] = True
    with pytest.raises(DataError, match="measured spots"):
        find_training_corners(Canvas.of(*grids((20, 20), occupied=occupied), (2, (0, 0)), 8))


@pytest.mark.parametrize("step", [0, 4, 7, 100])
@pytest.mark.parametrize("phase", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("shape", [(20, 23), (5, 9), (3, 3)])
def test_inference_covers_every_spot_and_averages_what_agrees(shape, phase, step):
    occupied = np.random.default_rng(0).random(shape) < 0.6
    occupied[-1, -1] = occupied[1, 1] = occupied[0, 1] = True
    maps, occupied, measured = grids(shape, 2, phase, occupied=occupied)
    canvas = Canvas.of(maps, occupied, measured, (2, phase), choose_window_side(8, 2, shape), whole=True)
    corners = find_inference_corners(canvas, step)
    calls = []

    def predict(values, known):
        calls.append(len(values))
        return fill_nearest(values, 2)

    full = average_windows(canvas, corners, predict, batch=3)
    assert max(calls) <= 3
    top, left = canvas.offset
    found = full[:, top : top + shape[0], left : left + shape[1]].numpy()
    assert np.isfinite(found[:, occupied]).all()
    np.testing.assert_allclose(found[:, measured], maps[:, measured], rtol=1e-6)


def test_windows_and_masks_are_turned_alike_by_all_eight_poses():
    maps, occupied, measured = grids((16, 16), genes=1)
    canvas = Canvas.of(maps, occupied, measured, (2, (0, 0)), 16)
    values, _ = cut_windows(canvas, torch.zeros(200, dtype=torch.long), torch.zeros(200, 2, dtype=torch.long))
    turned, known = augment(values, values > 100, seeded())
    assert torch.equal(known, turned > 100)
    assert len({tuple(x.flatten().tolist()) for x in turned}) == 8


def test_strided_levels():
    sampling, x = StridedSampling(2), torch.rand(2, 1, 8, 8)
    known = x > 0.5
    fewer = sampling.thin((x, known), seeded())
    assert torch.equal(fewer[0], x[..., ::2, ::2])
    x0, mask = sampling.lift(fewer)
    assert x0.shape == x.shape
    assert mask.sum() == fewer[1].sum()
    assert torch.equal(x0[mask], x[mask])
    image = torch.rand(2, 1, 16, 16)
    shown, everywhere = sampling.sample_image(image, known)
    assert torch.equal(shown, decimate(image, 2))
    assert everywhere.all()


def test_scattered_levels_drop_some_and_guess_what_was_dropped():
    sampling, x = ScatteredSampling(0.3), torch.rand(4, 1, 8, 8)
    known = x > 0.5
    known[3] = False
    known[3, 0, 0, :2] = True
    fewer, kept = sampling.thin((x * known, known), seeded())
    guessed = sampling.select_scored(known, kept)
    assert torch.equal(kept | guessed, known)
    assert not (kept & guessed).any()
    assert kept[3].sum() == guessed[3].sum() == 1
    assert torch.equal(fewer, x * kept)
    assert torch.equal(kept.flatten(1).sum(1)[:3], (known.flatten(1).sum(1)[:3] * 0.3).round().long())


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    Image.fromarray(rng.integers(0, 255, (130, 150), dtype=np.uint8)).save(tmp_path / "gray.png")
    Image.fromarray(rng.integers(0, 255, (128, 140, 3), dtype=np.uint8)).save(tmp_path / "more" / "colour.JPG")
    Image.fromarray(np.full((128, 128), 0x80FF, dtype=np.uint16)).save(tmp_path / "deep.tif")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_of_a_folder_are_gray_crops(photographs):
    images = NaturalImages.read(photographs)
    assert sorted(image.shape for image in images.images) == [(128, 128), (128, 140), (130, 150)]
    assert 0x80 in np.unique(images.images[0])
    crops = images.draw_crops(12, 64, seeded())
    assert crops.shape == (12, 1, 64, 64)
    assert crops.dtype == torch.float32
    assert crops.min() >= 0
    assert 0.5 < crops.max() <= 1
    assert torch.equal(crops, images.draw_crops(12, 64, seeded()))
    assert not torch.equal(crops, images.draw_crops(12, 64, seeded(1)))
    assert NaturalImages.read(photographs).digest == images.digest
    with pytest.raises(DataError, match="need 140"):
        images.require(70)


def test_images_that_can_not_be_used_are_named(photographs):
    Image.fromarray(np.zeros((127, 400), dtype=np.uint8)).save(photographs / "small.png")
    with pytest.raises(DataError, match=r"small\.png"):
        NaturalImages.read(photographs)
    (photographs / "small.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"small\.png"):
        NaturalImages.read(photographs)
    with pytest.raises(DataError, match="no natural image"):
        NaturalImages.read(photographs / "absent")


@pytest.mark.parametrize("side", [32, 27])
def test_turning_by_nothing_and_by_a_quarter_loses_nothing(side):
    wide = torch.rand(2 * side, 2 * side)
    first = (side + 1) // 2
    centre = wide[first : first + side, first : first + side]
    assert torch.equal(cut_turned_centre(wide, 0.0, side), centre)
    quarter = cut_turned_centre(wide, torch.pi / 2, side)
    assert set(quarter.flatten().tolist()) <= set(wide.flatten().tolist())
    if side % 2 == 0:
        assert any(torch.equal(quarter, torch.rot90(centre, k)) for k in (1, 3))
