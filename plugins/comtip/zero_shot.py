"""Zero-shot prediction: which value of a gene an image looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stzoo.core.section import Floats
from stzoo.plugins.comtip.network import Network
from torch import Tensor

_SPOTS = 256
"""Spots at a time."""


def value_grid(value_max: float, points: int, device: str = "cpu") -> Tensor:
    """Return the values that are tried, float32 (points,)."""
    return torch.linspace(0, value_max, points, device=device)


def soft_values(network: Network, z: Tensor, code: Any, grid: Tensor) -> tuple[Floats, Floats]:
    """Return mean and standard deviation, float32 (n, g) each, of softmax template matching over a grid.

    Specification, section 4: our reading of "template matching". The deviation is the uncertainty.

    Parameters
    ----------
    z
        z_img (n, d).
    code
        Genes, from :meth:`TextTower.encode_genes`.
    """
    means, spreads = [], []
    for start in range(0, len(z), _SPOTS):
        share = network.value_scores(z[start : start + _SPOTS], code, grid).softmax(-1)  # (n, g, k)
        mean = share @ grid
        means.append(mean.cpu())
        spreads.append((share @ grid**2 - mean**2).clamp_min(0).sqrt().cpu())
    return torch.cat(means).numpy(), torch.cat(spreads).numpy()


@dataclass(frozen=True)
class Calibration:
    """What training spots say of each seen gene (ours).

    Parameters
    ----------
    table
        float32 (g, 4): scale and offset from zero-shot values to expression, mean and standard deviation of expression.
    """

    table: Tensor

    def of(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return scale and offset (g,) of genes by their place; genes never seen (-1) are left as they are."""
        table = self.table.numpy()
        rows = [table[p, :2] if p >= 0 else (1.0, 0.0) for p in places]
        both = np.array(rows, dtype=np.float32).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def levels(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (g,) of genes; for genes never seen the medians of those seen."""
        table = self.table[:, 2:].numpy()
        middle = np.median(table, axis=0)
        both = np.array([table[p] if p >= 0 else middle for p in places], dtype=np.float32).reshape(-1, 2)
        return both[:, 0], both[:, 1]


def calibration(predicted: Floats, truth: Floats) -> Calibration:
    """Return scale and offset by least squares on training spots, (n, g) each; the scale is not negative."""
    x, y = torch.from_numpy(predicted).double(), torch.from_numpy(truth).double()
    dx = x - x.mean(0)
    scale = ((dx * (y - y.mean(0))).sum(0) / (dx**2).sum(0).clamp_min(1e-9)).clamp(0.0, 5.0)
    offset = y.mean(0) - scale * x.mean(0)
    return Calibration(torch.stack([scale, offset, y.mean(0), y.std(0, correction=0)], dim=1).float())


def set_levels(network: Network, z: Tensor, code: Any, means: Floats, spreads: Floats) -> Floats:
    """Return how high a set of genes is at each spot, float32 (n,), in standard deviations (ours).

    The profile of the set alone is read with all its genes at one level, from -1.5 to 3 standard deviations about
    their means; the result is the mean level under the softmax of the similarities.
    """
    levels = torch.linspace(-1.5, 3.0, 19, device=z.device)
    middle, spread = (torch.from_numpy(x).to(z.device) for x in (means, spreads))
    values = (middle + levels[:, None] * spread).clamp_min(0)  # (levels, genes)
    texts = torch.nn.functional.normalize(network.text.profiles(code, values), dim=-1)
    images = torch.nn.functional.normalize(z, dim=-1)
    share = (network.scale() * images @ texts.T).softmax(-1)
    out: Floats = (share @ levels).cpu().numpy()
    return out
