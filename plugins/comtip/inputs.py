"""From a section to what the image tower reads, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.spatial import cKDTree
from stzoo.core.interfaces import Progress
from stzoo.core.section import Floats, Points, Section
from stzoo.plugins.comtip.config import Stem, VisionConfig
from stzoo.plugins.comtip.texture import statistics
from torch import Tensor

_SAMPLE = 512
"""Spots whose statistics are looked at to standardise a section: enough, and bounded."""

_MEAN, _SPREAD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
"""CLIP's normalisation of RGB, for a linear stem."""


def raw_inputs(section: Section, centres: Points, config: VisionConfig) -> Tensor:
    """Return patch statistics (n, P, f), or normalised pixels (n, 3, h, w) for a linear stem.

    Parameters
    ----------
    centres
        float (n, 2), pixels of the full resolution.
    """
    tiles = torch.from_numpy(section.require_slide().tiles(centres, size_px=config.tile_px, mpp=config.mpp))
    if config.stem is Stem.texture:
        return statistics(tiles, config.patch_px)
    spread = torch.tensor(_SPREAD)
    return ((tiles.float() / 255 - torch.tensor(_MEAN)) / spread).permute(0, 3, 1, 2).contiguous()


def section_moments(section: Section, config: VisionConfig, batch_size: int) -> tuple[Tensor, Tensor] | None:
    """Return mean and spread (f,) of the statistics over a section's patches; None for a linear stem.

    Stain and background differ from slide to slide, so statistics are read relative to their own section (ours).
    """
    if config.stem is not Stem.texture:
        return None
    chosen = np.unique(np.linspace(0, section.n_spots - 1, min(_SAMPLE, section.n_spots)).astype(int))
    places = section.pixels[chosen]
    parts = [raw_inputs(section, places[i : i + batch_size], config) for i in range(0, len(places), batch_size)]
    flat = torch.cat(parts).flatten(0, 1)
    return flat.mean(0), flat.std(0)


def standardised(inputs: Tensor, moments: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return statistics relative to those of their section, within six spreads."""
    if moments is None:
        return inputs
    mean, spread = moments
    return ((inputs - mean) / (spread + 1e-6)).clamp(-6, 6)


def batches(
    section: Section, config: VisionConfig, batch_size: int, progress: Progress | None = None
) -> Iterator[Tensor]:
    """Yield the inputs of every spot of a section, in order."""
    moments = section_moments(section, config, batch_size)
    places = section.pixels
    for start in range(0, len(places), batch_size):
        yield standardised(raw_inputs(section, places[start : start + batch_size], config), moments)
        if progress is not None:
            progress(min(start + batch_size, len(places)), len(places))


def turned(inputs: Tensor, turns: int, flip: bool) -> Tensor:
    """Return inputs of the tiles turned by ``turns`` x 90° and, if asked, mirrored (statistics do not depend on it)."""
    if inputs.ndim == 4:
        out = torch.rot90(inputs, turns, (2, 3))
        return out.flip(3) if flip else out
    b, n, f = inputs.shape
    side = round(n**0.5)
    grid = torch.rot90(inputs.view(b, side, side, f), turns, (1, 2))
    return (grid.flip(2) if flip else grid).reshape(b, n, f)


def with_context(section: Section, z: Floats, widths: list[float]) -> Floats:
    """Return own vectors beside Gaussian means over neighbouring spots (ours), float32 (n, d * (1 + widths))."""
    if not widths:
        return z
    tree = cKDTree(section.um)
    parts = [z]
    for width in widths:
        near = tree.sparse_distance_matrix(tree, 3 * width, output_type="coo_matrix").tocsr()
        near.data = np.exp(-0.5 * (near.data / width) ** 2)
        near.setdiag(1.0)
        parts.append(np.asarray((near @ z) / np.asarray(near.sum(1)).reshape(-1, 1), dtype=np.float32))
    return np.concatenate(parts, axis=1)
