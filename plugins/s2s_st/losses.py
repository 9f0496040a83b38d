"""Distances and their sum (specification, section 2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from stzoo.plugins.s2s_st.config import TrainConfig
from torch import Tensor


def masked_l1(estimate: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Return the mean absolute difference over the scored places of a batch; NaN where there is none.

    ``estimate`` and ``target`` are float (b, 1, n, n), ``scored`` is bool of that shape.
    """
    return ((estimate - target).abs() * scored).sum() / scored.sum()


def deep_l1(estimates: Sequence[Tensor], target: Tensor, scored: Tensor) -> Tensor:
    """Return the masked L1 of r_1 .. r_N, weighted by k / N (deep supervision)."""
    n = len(estimates)
    return torch.stack([(k / n) * masked_l1(r, target, scored) for k, r in enumerate(estimates, start=1)]).sum()


def gradient_l1(estimate: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Return the L1 distance of Sobel gradients (/ 8), where all nine places are scored (our reading); 0 if nowhere."""
    whole = F.avg_pool2d(scored.float(), 3, 1) > 1 - 1e-3  # (b, 1, n-2, n-2)
    difference = _sobel(estimate - target).abs().mean(dim=1, keepdim=True)
    return (difference * whole).sum() / whole.sum().clamp(min=1)


def total_loss(parts: Mapping[str, Tensor], config: TrainConfig) -> Tensor:
    """Return (λ_g / κ) (s2s + s2d) + g1 + g2 + λ_∇ gradient, of those that are given.

    Parameters
    ----------
    parts
        ``s2s`` and ``s2d`` in log-normalised units, ``g1`` and ``g2`` in grey levels, ``gradient`` summed over
        s2s, g1 and g2 with the weights that these have (our reading).
    """
    genes = config.gene_weight / config.gene_scale
    weights = {"s2s": genes, "s2d": genes, "g1": 1.0, "g2": 1.0, "gradient": config.gradient}
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def _sobel(x: Tensor) -> Tensor:
    """Return horizontal and vertical derivatives of (b, 1, n, n): (b, 2, n-2, n-2)."""
    across = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    return F.conv2d(x, torch.stack([across, across.T])[:, None])
