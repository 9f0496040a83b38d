"""Haematoxylin is the density of nuclei, whatever the light of the background."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import hed2rgb
from stzoo.core.slides.stain import haematoxylin


def stained(haematoxylin: float, eosin: float) -> np.ndarray:
    """A field of eosin with a square of haematoxylin on it, inside a white border."""
    densities = np.zeros((40, 50, 3))
    densities[8:-8, 8:-8, 1] = eosin
    densities[15:25, 20:30, 0] = haematoxylin
    return hed2rgb(densities)


@pytest.mark.parametrize("light", [(1.0, 1.0, 1.0), (0.95, 0.88, 0.93), (0.8, 0.8, 0.8)])
def test_nuclei_are_found_under_any_light(light):
    found = haematoxylin(np.rint(stained(0.05, 0.1) * 254 * light).astype(np.uint8))
    assert found.dtype == np.float32
    assert found.shape == (40, 50)
    assert found[15:25, 20:30].mean() == pytest.approx(0.05, abs=0.005)
    rest = np.ones((40, 50), dtype=bool)
    rest[15:25, 20:30] = False
    assert np.abs(found[rest]).max() < 0.01


def test_more_haematoxylin_is_more():
    weak, strong = (haematoxylin(np.rint(stained(h, 0.05) * 254).astype(np.uint8)) for h in (0.03, 0.09))
    assert strong[20, 25] > 2 * weak[20, 25] > 0
