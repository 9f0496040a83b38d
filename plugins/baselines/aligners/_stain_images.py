"""Sections as an alignment by intensity sees them: haematoxylin and tissue, at several resolutions; and how alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from stzoo import Section
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.data.tissue import overview, slide_tissue
from stzoo.core.slides import haematoxylin, resample
from torch.nn import functional as F

_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class StainLevel:
    """A section at one resolution.

    Parameters
    ----------
    planes
        float32 (1, 3, h, w): haematoxylin within the tissue (0 to 1, and 0 elsewhere), the tissue (0 to 1), and ones.
    matrix
        float64 (2, 3), from the centre of a pixel, (column, row), to micrometres.
    """

    planes: torch.Tensor
    matrix: Doubles


def prepare_levels(section: Section, levels_um: Sequence[float]) -> list[StainLevel]:
    """Return a section at several resolutions (µm/px), in that order.

    Haematoxylin is scaled between its 1st and 99th percentile in the tissue, so that stain and scanner do not matter.
    """
    small = overview(section, min(levels_um))
    tissue = slide_tissue(section, small)
    density = haematoxylin(small.pixels)
    low, high = np.percentile(density[tissue.mask], [1, 99])
    density = np.clip((density - low) / (high - low + _TINY), 0, 1) * tissue.mask
    planes = np.stack([density, tissue.mask, np.ones_like(density)], axis=-1).astype(np.float32)
    return [_shrink(planes, tissue.matrix, max(1.0, um / small.mpp)) for um in levels_um]


def unlikeness(matrix: torch.Tensor, moving: StainLevel, fixed: StainLevel, outline_weight: float) -> torch.Tensor:
    """Return the loss of a map from fixed to moving micrometres, float64 (2, 3): 0 for the same picture.

    ``1 - NCC`` of haematoxylin where both show tissue, and, with its weight, ``1 - Dice`` of the tissue where both
    slides reach; the mean over both directions (ours), so that the roles of the sections do not matter.
    """
    turn = torch.linalg.inv(matrix[:, :2])
    inverse = torch.cat([turn, -(turn @ matrix[:, 2])[:, None]], dim=1)
    there, back = (_one_way(*way, outline_weight) for way in ((matrix, moving, fixed), (inverse, fixed, moving)))
    return (there + back) / 2


def _one_way(matrix: torch.Tensor, moving: StainLevel, fixed: StainLevel, outline_weight: float) -> torch.Tensor:
    stain, tissue, seen = _sample(matrix, moving, fixed)[0]
    stain_there, tissue_there, _ = fixed.planes[0]
    both = tissue * tissue_there
    dice = 2 * (both * seen).sum() / ((tissue + tissue_there) * seen).sum().clamp_min(_TINY)
    loss: torch.Tensor = (1 - _ncc(stain, stain_there, both)) + outline_weight * (1 - dice)
    return loss


def _shrink(planes: Floats, matrix: Doubles, factor: float) -> StainLevel:
    """Return the planes with pixels ``factor`` times as large, slightly smoothed so that the loss has a slope."""
    rows, columns = (int(np.ceil(side / factor)) for side in planes.shape[:2])
    shrunk = resample(planes, (0.0, 0.0, columns * factor, rows * factor), (rows, columns))
    shrunk[..., :2] = gaussian_filter(shrunk[..., :2], (1, 1, 0))
    corner = matrix[:, :2] @ np.full(2, (factor - 1) / 2) + matrix[:, 2]
    stacked = torch.from_numpy(np.ascontiguousarray(shrunk.transpose(2, 0, 1)))[None]  # (1, 3, h, w)
    return StainLevel(stacked, np.column_stack([matrix[:, :2] * factor, corner]))


def _ncc(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the correlation of two images, each pixel counting by its weight; (h, w) all."""
    total = weight.sum().clamp_min(_TINY)
    a = a - (weight * a).sum() / total
    b = b - (weight * b).sum() / total
    spread = (weight * a * a).sum() * (weight * b * b).sum()
    return (weight * a * b).sum() / (spread + _TINY).sqrt()


def _sample(matrix: torch.Tensor, moving: StainLevel, fixed: StainLevel) -> torch.Tensor:
    """Return the moving planes on the pixels of the fixed section, (1, 3, h, w); 0 outside the moving slide."""
    rows, columns = fixed.planes.shape[2:]
    size_f = torch.tensor([columns, rows], dtype=torch.float64)
    size_m = torch.tensor(moving.planes.shape[:1:-1], dtype=torch.float64)  # width, height
    to_pixels = torch.tensor(np.linalg.inv(moving.matrix[:, :2]))
    origin, place = torch.tensor(moving.matrix[:, 2]), torch.tensor(fixed.matrix)
    linear = to_pixels @ matrix[:, :2] @ place[:, :2]  # fixed pixel -> moving pixel
    shift = to_pixels @ (matrix[:, :2] @ place[:, 2] + matrix[:, 2] - origin)
    # torch's coordinates run from -1 to 1 between the outer borders of the image
    scaled = linear * size_f / size_m[:, None]
    middle = (linear @ ((size_f - 1) / 2) + shift - (size_m - 1) / 2) * 2 / size_m
    theta = torch.cat([scaled, middle[:, None]], dim=1)[None].float()
    grid = F.affine_grid(theta, [1, 3, rows, columns], align_corners=False)
    there: torch.Tensor = F.grid_sample(moving.planes, grid, align_corners=False)
    return there
