"""Where the tissue is: pink and gray backgrounds, holes, dust and frames."""

from __future__ import annotations

import numpy as np
import pytest
from stzoo.core.errors import DataError
from stzoo.core.slides.tissue_mask import tissue_mask


@pytest.mark.parametrize("background", [(250, 250, 248), (238, 215, 230), (165, 170, 166)])
@pytest.mark.parametrize("mpp", [8.0, 16.0])
def test_tissue_is_found_on_any_background(background: tuple[int, int, int], mpp: float) -> None:
    side = round(4000 / mpp)
    um = (np.mgrid[:side, :side] + 0.5) * mpp
    truth = ((um[0] - 2000) / 900) ** 2 + ((um[1] - 1800) / 1300) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 3, (side, side, 3))
    pixels = np.array(background) + noise
    pixels[truth] = np.array([110, 70, 130]) + noise[truth] * 6
    hole = (um[0] - 2000) ** 2 + (um[1] - 1800) ** 2 < 150**2
    pixels[hole] = background
    dust = (um[0] - 500) ** 2 + (um[1] - 500) ** 2 < 120**2
    pixels[dust] = 40
    mask = tissue_mask(np.clip(pixels, 0, 255).astype(np.uint8), mpp=mpp)
    assert mask.dtype == bool
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    assert mask[hole].all()
    assert not mask[dust].any()


def test_a_blank_slide_is_an_error() -> None:
    with pytest.raises(DataError, match="no tissue"):
        tissue_mask(np.full((50, 50, 3), 200, np.uint8), mpp=10.0)
