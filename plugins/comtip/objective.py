"""The losses of CoMTIP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from stzoo.plugins.comtip.network import ImageTower
from torch import Tensor


def info_nce(image: Tensor, text: Tensor, scale: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the symmetric InfoNCE loss (paper, section 2.4; the formula is CLIP's, our reading).

    Parameters
    ----------
    image, text
        (b, d), normalised here.
    scale
        Factor of the cosine similarities.
    targets
        (b, b), rows sum to one and the matrix is treated as symmetric in meaning; None for one-hot pairs.
    """
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    wanted = torch.eye(len(logits), device=logits.device) if targets is None else targets
    there, back = logits.log_softmax(1), logits.T.log_softmax(1)
    return -0.5 * ((wanted * there).sum(1).mean() + (wanted * back).sum(1).mean())


def soft_targets(profiles: Tensor, temperature: float) -> Tensor:
    """Return targets (b, b) from the cosine similarity of expression profiles (b, p) (ours)."""
    unit = F.normalize(profiles, dim=-1)
    return torch.softmax(unit @ unit.T / temperature, dim=1)


def masked_feature_loss(
    tower: ImageTower, inputs: Tensor, teacher: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """Return L_obs + L_unobs of masked feature modelling (paper, section 2.1).

    Our reading: the teacher features are detached, and both terms are means over the width as well.
    """
    visible, seen, hidden, made = tower.masked(inputs, share, generator)
    goal = teacher.detach()

    def at(index: Tensor) -> Tensor:
        return goal.gather(1, index[..., None].expand(-1, -1, goal.shape[-1]))

    return F.mse_loss(seen, at(visible)) + F.mse_loss(made, at(hidden))


def value_ranking(scores: Tensor, values: Tensor, grid: Tensor) -> Tensor:
    """Return the cross-entropy of the true value among the grid, with soft neighbours (ours; section 7).

    Parameters
    ----------
    scores
        (b, g, k), similarity of each image with each gene at each value of the grid.
    values
        (b, g), true log-normalised values.
    grid
        (k,), ascending and evenly spaced.
    """
    step = grid[1] - grid[0]
    near = torch.softmax(-0.5 * ((values[..., None].clamp(max=float(grid[-1])) - grid) / (0.75 * step)) ** 2, dim=-1)
    return -(near * scores.log_softmax(-1)).sum(-1).mean()
