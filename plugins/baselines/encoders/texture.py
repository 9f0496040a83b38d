"""Features of one H&E patch: stains and colours, edges and blobs at several scales, local binary patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, sobel
from skimage.color import rgb2hed
from skimage.feature import local_binary_pattern
from stzoo.core.arrays import Doubles, Floats, Pixels

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CHANNELS = 7
SCALES = 4
"""Octaves: structures of about 1, 2, 4 and 8 pixels."""
PATTERNS = ((8, 1), (8, 3))
"""Points and radius of the local binary patterns."""

N_FEATURES = CHANNELS * (2 + len(QUANTILES)) + 2 * SCALES * 6 + sum(points + 2 for points, _ in PATTERNS)
"""Features of a patch."""


def patch_features(patch: Pixels) -> Doubles:
    """Return the features of a patch.

    Parameters
    ----------
    patch
        uint8 (h, w, 3), at least 32 x 32.

    Returns
    -------
    float64 (N_FEATURES,): mean, standard deviation and quantiles of haematoxylin, eosin and the residual stain
    (Ruifrok & Johnston 2001), of the mean optical density and of red, green, blue; for haematoxylin and eosin at each
    octave mean and spread of the gradient, and spread, mean size and tails of the difference of Gaussians; the
    histograms of uniform local binary patterns (Ojala et al. 2002) of the brightness.
    """
    rgb = patch.astype(np.float32) / 255
    stains = rgb2hed(rgb).astype(np.float32)  # (h, w, 3)
    density = -np.log(np.maximum(rgb, 1 / 255)).mean(axis=2)
    maps = np.stack([*np.moveaxis(stains, 2, 0), density, *np.moveaxis(rgb, 2, 0)])  # (7, h, w)
    brightness = np.rint(rgb.mean(axis=2) * 255).astype(np.uint8)
    return np.concatenate(
        [_statistics(maps), _octaves(stains[..., 0]), _octaves(stains[..., 1]), _patterns(brightness)]
    ).astype(np.float64)


def _statistics(maps: Floats) -> Floats:
    flat = maps.reshape(len(maps), -1)
    quantiles = np.quantile(flat[:, ::3], QUANTILES, axis=1)  # a third of the pixels is plenty
    return np.concatenate([flat.mean(axis=1), flat.std(axis=1), quantiles.ravel()])


def _octaves(stain: Floats) -> Floats:
    """Return edge and blob statistics of a stain, halving the picture from octave to octave."""
    found: list[float] = []
    for _ in range(SCALES):
        fine, coarse = gaussian_filter(stain, 1.0), gaussian_filter(stain, 2.0)
        edge, blob = np.hypot(sobel(fine, 0), sobel(fine, 1)), fine - coarse
        low, high = np.quantile(blob, (0.05, 0.95))
        found += [edge.mean(), edge.std(), blob.std(), np.abs(blob).mean(), low, high]
        height, width = (side - side % 2 for side in coarse.shape)
        stain = coarse[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return np.asarray(found, dtype=np.float32)


def _patterns(brightness: Pixels) -> Floats:
    encode: Any = local_binary_pattern  # untyped in scikit-image
    histograms = []
    for points, radius in PATTERNS:
        codes = encode(brightness, points, radius, "uniform").astype(np.intp)
        histograms.append(np.bincount(codes.ravel(), minlength=points + 2) / codes.size)
    return np.concatenate(histograms).astype(np.float32)
