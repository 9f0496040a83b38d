"""The aligner affine-image on real slides: a known map of her2st C4, and C3 onto C4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.read import read
from stzoo.core.slides.slide import Slide
from stzoo.core.workflows.alignment_quality import quality
from stzoo.plugins.baselines.aligners.affine_image import AffineImage
from stzoo.plugins.baselines.aligners.rigid import Rigid


def test_a_known_map_of_her2st_c4(shared_data: Path) -> None:
    section = read(f"{shared_data / 'her2st'}::C4")
    pixels, scale = section.require_slide().thumbnail(600)
    assert section.mpp is not None
    mpp = section.mpp / scale
    strain = Transform(np.array([[1.0, 0.05, 0], [0, 1, 0]]))
    middle = (pixels.shape[1] * mpp / 2, pixels.shape[0] * mpp / 2)
    truth = strain.then(Transform.rigid(132, (2300, 2700), flip=True, centre=middle))
    turned = truth.apply_image(pixels, mpp=mpp, shape=(1040, 1040))
    adata = AnnData(np.ones((len(section), 1), np.float32), obsm={"spatial": truth.apply(section.um) / mpp})
    fixed = Section(adata, "turned", slide=Slide.from_array(turned, mpp=mpp), mpp=mpp)
    found = AffineImage().align(section, fixed)
    assert np.linalg.norm(found.apply(section.um) - truth.apply(section.um), axis=1).mean() < 15.0
    judged = quality(section, fixed, found)
    assert judged.passed
    assert judged.dice > 0.97


@pytest.mark.parametrize("moving", ["C3", "C5"])
def test_refinement_makes_neighbours_more_alike_and_stays_near(shared_data: Path, moving: str) -> None:
    a, b = (read(f"{shared_data / 'her2st'}::{name}") for name in (moving, "C4"))
    rigid, refined = Rigid().align(a, b), AffineImage().align(a, b)
    before, after = quality(a, b, rigid), quality(a, b, refined)
    assert before.stain_correlation is not None
    assert after.stain_correlation is not None
    assert after.stain_correlation > before.stain_correlation + 0.03
    assert after.dice > 0.94
    assert after.lattice == "square"
    assert np.linalg.norm(refined.apply(a.um) - rigid.apply(a.um), axis=1).mean() < 120
