"""The aligner affine-image: known maps of drawn slides, by the picture alone, within bounds."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from anndata import AnnData
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.slides.slide import Slide
from stzoo.plugins.baselines.aligners.affine_image import AffineImage

MPP, SIDE = 8.0, 450
MIDDLE = (SIDE * MPP / 2, SIDE * MPP / 2)


def tissue(round_: bool = False) -> Section:
    """A drawn tissue cut to a lopsided (or round) piece on a white slide."""
    drawn = synthetic_section(side_um=2400)
    inner = drawn.require_slide().read(0, 0, 2400, 2400, mpp=MPP)
    pixels = np.full((SIDE, SIDE, 3), 245, np.uint8)
    pixels[75:375, 75:375] = inner
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) * MPP - MIDDLE[0]
    out = x**2 + y**2 > 1100**2 if round_ else (x + 0.4 * y > 900) | (y - 0.7 * x > 1200)
    pixels[out] = 245
    um = drawn.um + 600
    kept = ~out[(um[:, 1] / MPP).astype(int), (um[:, 0] / MPP).astype(int)]
    return placed(um[kept], pixels)


def placed(um: np.ndarray, pixels: np.ndarray) -> Section:
    adata = AnnData(np.full((len(um), 2), np.nan, dtype=np.float32), obsm={"spatial": um / MPP})
    return Section(adata, "drawn", slide=Slide.from_array(pixels, mpp=MPP), mpp=MPP)


def moved(section: Section, truth: Transform, *, pink: bool = False) -> Section:
    """The section under a map; on request with another background and stain, and noise."""
    pixels = section.require_slide().read(0, 0, SIDE, SIDE)
    there = truth.apply_image(pixels, mpp=MPP, shape=(SIDE, SIDE)).astype(float)
    if pink:
        noise = np.random.default_rng(0).normal(0, 6, there.shape)
        there = 255 * (there / 255) ** 1.25 * np.array([0.95, 0.84, 0.9]) + noise
    return placed(truth.apply(section.um), np.clip(there, 0, 255).astype(np.uint8))


def known(angle: float, flip: bool, shear: float) -> Transform:
    around = Transform(np.column_stack([np.eye(2), MIDDLE]))
    strain = Transform(np.array([[1, shear, 0], [0, 1, 0]]))
    turned = Transform.rigid(angle, (60, -40), flip=flip, centre=MIDDLE)
    return around.inverse().then(strain).then(around).then(turned)


def error_um(found: Transform, truth: Transform, section: Section) -> float:
    return float(np.linalg.norm(found.apply(section.um) - truth.apply(section.um), axis=1).mean())


@pytest.mark.parametrize(("angle", "flip", "pink"), [(64.0, True, False), (200.0, False, True)])
def test_known_maps_are_found_without_counts_whatever_the_stain(angle: float, flip: bool, pink: bool) -> None:
    section, truth = tissue(), known(angle, flip, 0.05)
    found = AffineImage().align(section, moved(section, truth, pink=pink))  # every count is NaN
    assert error_um(found, truth, section) < 12.0
    assert np.linalg.det(found.matrix[:, :2]) == pytest.approx(-1 if flip else 1, abs=0.02)


def test_a_round_tissue_is_turned_by_its_picture() -> None:
    section, truth = tissue(round_=True), known(140, False, 0.0)
    assert error_um(AffineImage().align(section, moved(section, truth)), truth, section) < 20.0


def test_the_stretch_is_bounded_and_zero_means_rigid() -> None:
    section = tissue()
    fixed = moved(section, known(10, False, 0.3))
    for limit in (0.1, 0.0):
        found = AffineImage({"stretch": limit, "steps": 30, "step_deg": 60}).align(section, fixed)
        sizes = np.log(np.linalg.svd(found.matrix[:, :2])[1])
        assert np.abs(sizes).max() <= limit + 1e-6
        assert abs(sizes.sum()) <= limit + 1e-6


def test_doubt_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.full((SIDE, SIDE, 3), 245, np.uint8)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) * MPP - MIDDLE[0]
    ring = np.hypot(x, y)
    pixels[ring < 1100] = [150, 110, 160]
    pixels[ring < 500] = [110, 60, 140]
    um = np.stack(np.meshgrid(*[np.arange(1000, 2600, 200.0)] * 2), axis=-1).reshape(-1, 2)
    section = placed(um, pixels)
    with caplog.at_level(logging.WARNING):
        AffineImage({"steps": 1, "step_deg": 60}).align(section, section)
    assert "another orientation looks nearly as alike" in caplog.text


def test_what_is_refused() -> None:
    section = tissue()
    bare = Section(section.adata, "bare", mpp=MPP)
    for pair in ((bare, section), (section, bare)):
        with pytest.raises(DataError, match=r"(?s)'bare' has no slide image.*--model rigid.*--model ot"):
            AffineImage().align(*pair)
    for key, value in (("stretch", -1), ("stretch", 0.9), ("outline_weight", -1), ("finest_um", 20), ("steps", 0),
                       ("overlap", 0.1)):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{key} of 'affine-image' is"):
            AffineImage({key: value}).align(section, section)
