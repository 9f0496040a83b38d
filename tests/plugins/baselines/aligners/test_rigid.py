"""The rigid aligner: known turns and mirrorings of a tissue are found, and doubtful ones are said to be."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, DataError, UnitsError
from stzoo.core.geometry.transform import Transform
from stzoo.core.slides.slide import Slide
from stzoo.plugins.baselines.aligners.rigid import Rigid

MPP = 10.0


def lattice(pitch: float = 200.0) -> np.ndarray:
    """Spots under an L-shaped tissue, micrometres."""
    x, y = np.meshgrid(np.arange(18) * pitch, np.arange(14) * pitch)
    inside = (x < 1100) | ((y < 1300) & (x + y / 2 < 3300))
    return np.column_stack([x[inside], y[inside]]) + 900


def section(um: np.ndarray, slide: Slide | None = None, mpp: float | None = None, **obs: np.ndarray) -> Section:
    place = {"spatial_um": um} if mpp is None else {"spatial": um / mpp}
    adata = AnnData(np.ones((len(um), 2), dtype=np.float32), obs=obs or None, obsm=place)
    return Section(adata, "s", slide=slide, mpp=mpp)


def drawing(um: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Draw an H&E-like image at MPP on which tissue lies around the spots, on a pink, uneven background."""
    spots = np.zeros((size, size))
    at = (um / MPP).astype(int)
    spots[at[:, 1], at[:, 0]] = 1
    tissue = gaussian_filter(spots, 10) * 2 * np.pi * 100 > 0.15
    noise = np.random.default_rng(seed).normal(0, 1, (size, size, 3))
    pixels = np.where(tissue[..., None], [120, 90, 150], [238, 222, 232]) + noise * np.where(tissue[..., None], 25, 2)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def error_um(found: Transform, truth: Transform, um: np.ndarray) -> float:
    return float(np.linalg.norm(found.apply(um) - truth.apply(um), axis=1).max())


@given(angle=st.floats(0, 360), flip=st.booleans(), shift=st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000)))
@settings(max_examples=6, deadline=None)
def test_known_turns_of_spots_are_found(angle: float, flip: bool, shift: tuple[float, float]) -> None:
    um = lattice()
    truth = Transform.rigid(angle, shift, flip=flip)
    found = Rigid().align(section(um), section(truth.apply(um)))
    assert error_um(found, truth, um) < 1.0


@pytest.mark.parametrize(("angle", "flip"), [(0, False), (64, True), (170, False), (290, True)])
def test_known_turns_of_images_are_found(angle: float, flip: bool) -> None:
    um = lattice()
    pixels = drawing(um, 520)
    truth = Transform.rigid(angle, (120, -60), flip=flip, centre=(2600, 2600))
    turned = truth.apply_image(pixels, mpp=MPP, shape=(520, 520))
    moving = section(um, Slide.from_array(pixels, mpp=MPP), MPP)
    fixed = section(truth.apply(um), Slide.from_array(turned, mpp=MPP), MPP)
    found = Rigid().align(moving, fixed)
    assert error_um(found, truth, um) < 40.0  # half a pitch is 100


def test_a_section_of_which_a_fifth_is_missing_is_found() -> None:
    um = lattice()
    truth = Transform.rigid(77, (300, 500), flip=True)
    rest = um[um[:, 0] > np.quantile(um[:, 0], 0.2)]
    assert error_um(Rigid().align(section(um), section(truth.apply(rest))), truth, um) < 1.0


def test_image_outlines_come_in_the_frame_of_the_spots() -> None:
    """Where a section has pixels and micrometres of another frame, the transform speaks of the latter."""
    um = lattice()
    slide = Slide.from_array(drawing(um, 520), mpp=MPP)
    plain = section(um, slide, MPP)
    frame = Transform.rigid(40, (7000, 100))
    moved = section(um, slide, MPP)
    moved.adata.obsm["spatial_um"] = frame.apply(um)
    assert error_um(Rigid().align(moved, plain), frame.inverse(), frame.apply(um)) < 20.0


def test_flips_can_be_ruled_out_and_doubt_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    um = lattice()
    fixed = section(Transform.rigid(200, flip=True).apply(um))
    assert np.linalg.det(Rigid().align(section(um), fixed).matrix[:, :2]) == pytest.approx(-1)
    assert np.linalg.det(Rigid({"flips": False}).align(section(um), fixed).matrix[:, :2]) == pytest.approx(1)
    x, y = np.meshgrid(np.arange(12) * 200.0, np.arange(12) * 200.0)
    square = section(np.column_stack([x.ravel(), y.ravel()]))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Rigid().align(square, square)
    assert f"another orientation of '{square.name}'" in caplog.text


def test_spots_off_the_tissue_do_not_count() -> None:
    um = lattice()
    truth = Transform.rigid(30, flip=True)
    around = np.random.default_rng(0).uniform(-3000, 9000, (200, 2))
    under = np.arange(len(um) + 200) < len(um)
    moving = section(np.vstack([um, around]), in_tissue=under.astype(int))
    assert error_um(Rigid().align(moving, section(truth.apply(um))), truth, um) < 1.0


def test_same_input_same_result_and_progress_is_told() -> None:
    um = np.random.default_rng(0).uniform(0, 4000, (6000, 2))
    um = um[(um[:, 0] < 1500) | (um[:, 1] < 2000)]  # more cells than are used at once
    truth = Transform.rigid(-50, (100, 0))
    seen: list[tuple[int, int]] = []
    first = Rigid(seed=3).align(section(um), section(truth.apply(um)), progress=lambda *at: seen.append(at))
    again = Rigid(seed=3).align(section(um), section(truth.apply(um)))
    assert np.array_equal(first.matrix, again.matrix)
    assert error_um(first, truth, um) < 60.0
    assert seen[-1] == (48, 48)
    assert len(seen) == 48


def test_what_is_refused() -> None:
    um = lattice()
    with pytest.raises(DataError, match="3 spots, too few"):
        Rigid().align(section(um[:3]), section(um))
    with pytest.raises(DataError, match="lie upon each other"):
        Rigid().align(section(um), section(np.zeros((30, 2))))
    blank = Slide.from_array(np.full((200, 200, 3), 240, np.uint8), mpp=MPP)
    with pytest.raises(DataError, match="no tissue"):
        Rigid().align(section(um, blank, MPP), section(um, blank, MPP))
    pixels = AnnData(np.ones((len(um), 2), np.float32), obsm={"spatial": um})
    with pytest.raises(UnitsError, match="no µm/px"):
        Rigid().align(Section(pixels, "p"), section(um))
    unknown = Section(pixels, "p", slide=Slide.from_array(drawing(um, 520)))
    with pytest.raises(UnitsError, match="no µm/px"):
        Rigid().align(unknown, unknown)
    for key, value in (("step_deg", 0), ("overlap", 0.1), ("overlap", 1.5), ("mask_um", -1), ("iterations", 0)):
        with pytest.raises(ConfigError, match=f"{key} of 'rigid' is"):
            Rigid({key: value}).align(section(um), section(um))
    with pytest.raises(ConfigError, match="flip"):
        Rigid({"flip": False})
