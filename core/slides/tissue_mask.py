"""Where the tissue is on a slide."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Pixels
from stzoo.core.errors import DataError

SMOOTHING_UM = 50.0
SMALLEST_SHARE = 0.1


def tissue_mask(pixels: Pixels, *, mpp: float) -> npt.NDArray[np.bool_]:
    """Return where an H&E overview shows tissue.

    Optical density against the background (the median of the image's border, so pink or gray backgrounds are fine),
    smoothed, cut at Otsu's threshold (1979); holes are filled, and pieces below a tenth of the largest (dust,
    fiducials, pen) are left out.

    Parameters
    ----------
    pixels
        uint8 (h, w, 3), best at 5 to 30 µm/px.
    mpp
        Micrometres per pixel of ``pixels``.

    Returns
    -------
    bool (h, w).

    Raises
    ------
    DataError
        The image is of one colour.
    """
    from scipy.ndimage import binary_fill_holes, gaussian_filter, label
    from skimage import filters

    otsu: Any = filters.threshold_otsu
    light = pixels.astype(np.float32) + 1
    density = gaussian_filter(np.log(background_of(pixels) / light).mean(axis=-1), SMOOTHING_UM / mpp / 2)
    if np.ptp(density) < 1e-3:
        raise DataError("the image shows no tissue: it has one colour all over", todo="check the image")
    mask = binary_fill_holes(density > otsu(density))
    pieces, _ = label(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = sizes >= SMALLEST_SHARE * sizes.max()
    return np.asarray(kept[pieces] & (pieces > 0))


def background_of(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return the light of the background, one more than its value: the median of the image's border, float32 (3,)."""
    edges = (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:])
    border = np.concatenate([edge.reshape(-1, 3) for edge in edges])
    return np.asarray(np.median(border, axis=0) + 1, dtype=np.float32)
