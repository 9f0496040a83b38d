"""The rigid aligner on real sections, turned and mirrored by a known transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.read import read
from stzoo.core.slides.slide import Slide
from stzoo.core.slides.tissue_mask import tissue_mask
from stzoo.plugins.baselines.aligners.rigid import Rigid

TURNS = [(0.0, False), (41.0, True), (180.0, True), (255.0, False)]


def placed(um: np.ndarray, slide: Slide | None = None, mpp: float | None = None) -> Section:
    place = {"spatial_um": um} if mpp is None else {"spatial": um / mpp}
    return Section(AnnData(np.ones((len(um), 1), dtype=np.float32), obsm=place), "turned", slide=slide, mpp=mpp)


@pytest.mark.parametrize(("angle", "flip"), TURNS)
def test_spots_of_paste_slice1(shared_data: Path, angle: float, flip: bool) -> None:
    section = read(f"{shared_data / 'paste_breast'}::slice1")
    truth = Transform.rigid(angle, (700, -300), flip=flip)
    found = Rigid().align(section, placed(truth.apply(section.um)))
    assert np.linalg.norm(found.apply(section.um) - truth.apply(section.um), axis=1).max() < 1.0


@pytest.mark.parametrize(("angle", "flip"), TURNS)
def test_image_of_her2st_c4(shared_data: Path, angle: float, flip: bool) -> None:
    section = read(f"{shared_data / 'her2st'}::C4")
    pixels, scale = section.require_slide().thumbnail(900)
    assert section.mpp is not None
    mpp = section.mpp / scale
    middle = (pixels.shape[1] * mpp / 2, pixels.shape[0] * mpp / 2)
    truth = Transform.rigid(angle, (2300, 2700), flip=flip, centre=middle)
    turned = truth.apply_image(pixels, mpp=mpp, shape=(1560, 1560))
    fixed = placed(truth.apply(section.um), Slide.from_array(turned, mpp=mpp), mpp)
    found = Rigid().align(section, fixed)
    assert np.linalg.norm(found.apply(section.um) - truth.apply(section.um), axis=1).max() < 30.0  # pitch: 200


@pytest.mark.parametrize(
    ("moving", "fixed", "least"),
    [("her2st::C4", "her2st::C5", 0.95), ("her2st::C2", "her2st::C5", 0.95),
     ("dlpfc/h5ad/151673.h5ad", "dlpfc/h5ad/151674.h5ad", 0.95), ("mob/h5ad/MOB1.h5ad", "mob/h5ad/MOB2.h5ad", 0.85)],
)  # fmt: skip
def test_neighbouring_sections_overlap(shared_data: Path, moving: str, fixed: str, least: float) -> None:
    a, b = read(str(shared_data / moving)), read(str(shared_data / fixed))
    found = Rigid().align(a, b)
    masks = []
    for section in (a, b):
        pixels, scale = section.require_slide().thumbnail(500)
        assert section.mpp is not None
        masks.append((tissue_mask(pixels, mpp=section.mpp / scale), section.mpp / scale))
    (mask_a, mpp_a), (mask_b, mpp_b) = masks
    moved = found.apply_image(mask_a, mpp=mpp_a, shape=mask_b.shape, out_mpp=mpp_b)
    assert 2 * (moved & mask_b).sum() / (moved.sum() + mask_b.sum()) > least
    assert np.linalg.det(found.matrix[:, :2]) == pytest.approx(1)  # none of these is mirrored
