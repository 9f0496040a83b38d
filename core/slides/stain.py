"""Haematoxylin and eosin, whatever the colour of the background."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Pixels
from stzoo.core.slides.tissue_mask import background_of


def haematoxylin(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return the density of haematoxylin (Ruifrok and Johnston 2001), after the background was made white.

    Parameters
    ----------
    pixels
        uint8 (h, w, 3); its border is taken for background.

    Returns
    -------
    float32 (h, w), 0 where there is none; the scale depends on the stain.
    """
    from skimage.color import rgb2hed

    separate: Any = rgb2hed
    white = np.clip((pixels.astype(np.float32) + 1) / background_of(pixels), 1e-3, 1)
    return np.asarray(separate(white)[..., 0], dtype=np.float32)
