"""Stain and texture statistics of the patches of a tile (ours): what a small model need not learn from few spots."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

VERSION = 1
"""Part of the name of a cache of statistics: raise it when :func:`statistics` returns other values."""
LEVELS = 4
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of haematoxylin, eosin and a residual (Ruifrok & Johnston 2001)."""

N_STATISTICS = 4 + 4 + 2 * len(_QUANTILES) + LEVELS * 4 * 2


def statistics(tiles: Tensor, patch_px: int) -> Tensor:
    """Return the statistics of every patch.

    Parameters
    ----------
    tiles
        uint8 (b, side, side, 3), H&E.
    patch_px
        Side of a patch, a multiple of 8 that divides ``side``.

    Returns
    -------
    float32 (b, P, :data:`N_STATISTICS`), patches row by row: mean and spread of haematoxylin, eosin, residual and
    mean optical density, quantiles of both stains, and at four scales the gradient (mean, spread) and the band-pass
    energy (absolute, positive part squared) of both stains.
    """
    density = -torch.log((tiles.float() / 255).clamp_min(1 / 255)).permute(0, 3, 1, 2)  # (b, 3, h, w)
    unmix = torch.linalg.inv(F.normalize(torch.tensor(_STAINS), dim=1)).to(density.device)
    stains = torch.einsum("bchw,cs->bshw", density, unmix)
    planes = torch.cat([stains, density.mean(1, keepdim=True)], dim=1)  # (b, 4, h, w)
    found = [*_moments(planes, patch_px), _quantiles(stains[:, :2], patch_px)]
    level = stains[:, :2]
    for scale in range(LEVELS):
        smooth = _smooth(level)
        gradient = _gradient(smooth)
        band = level - smooth
        side = patch_px >> scale
        found += [*_moments(gradient, side), F.avg_pool2d(band.abs(), side), F.avg_pool2d(F.relu(band) ** 2, side)]
        level = F.avg_pool2d(smooth, 2)
    return torch.cat(found, dim=1).flatten(2).mT.contiguous()  # (b, P, n)


def _moments(planes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    mean = F.avg_pool2d(planes, side)
    return mean, (F.avg_pool2d(planes**2, side) - mean**2).clamp_min(0).sqrt()


def _quantiles(stains: Tensor, side: int) -> Tensor:
    b, c, h, w = stains.shape
    cells = stains.view(b, c, h // side, side, w // side, side)[:, :, :, ::2, :, ::2]  # every second pixel will do
    flat = cells.permute(0, 1, 2, 4, 3, 5).flatten(4).sort(dim=-1).values  # (b, c, rows, columns, pixels)
    picks = [flat[..., round(q * (flat.shape[-1] - 1))] for q in _QUANTILES]
    return torch.stack(picks, dim=2).flatten(1, 2)  # (b, c * quantiles, rows, columns)


def _smooth(planes: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=planes.device) / 16
    c = planes.shape[1]
    across = F.conv2d(F.pad(planes, (2, 2, 0, 0), mode="replicate"), kernel.expand(c, 1, 1, 5), groups=c)
    return F.conv2d(F.pad(across, (0, 0, 2, 2), mode="replicate"), kernel.view(5, 1).expand(c, 1, 5, 1), groups=c)


def _gradient(planes: Tensor) -> Tensor:
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return torch.sqrt(dx**2 + dy**2 + 1e-8)
