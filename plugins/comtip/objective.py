"""The losses of CoMTIP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from stzoo.plugins.comtip.config import MFMLoss
from stzoo.plugins.comtip.vision import ImageTower, SpotGenerator
from torch import Tensor


def info_nce(
    image: Tensor, text: Tensor, scale: Tensor, targets: Tensor | None = None, negatives: Tensor | None = None
) -> Tensor:
    """Return the symmetric InfoNCE loss (paper, section 2.4; the formula is CLIP's, our reading).

    Parameters
    ----------
    image, text
        (b, d), normalised here.
    scale
        Factor of the cosine similarities.
    targets
        (b, b), rows sum to one and the matrix is treated as symmetric in meaning; None for one-hot pairs.
    negatives
        (b, d), one more negative for each image alone, e.g. its profile with permuted values (ours).
    """
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    logits = scale * image @ text.T
    wanted = torch.eye(len(logits), device=logits.device) if targets is None else targets
    across = logits
    if negatives is not None:
        own = scale * (image * F.normalize(negatives, dim=-1)).sum(1, keepdim=True)
        across = torch.cat([logits, own], dim=1)
    there, back = across.log_softmax(1)[:, : len(logits)], logits.T.log_softmax(1)
    return -0.5 * ((wanted * there).sum(1).mean() + (wanted * back).sum(1).mean())


def soft_targets(profiles: Tensor, temperature: float) -> Tensor:
    """Return targets (b, b) from the cosine similarity of expression profiles (b, p) (ours)."""
    unit = F.normalize(profiles, dim=-1)
    return torch.softmax(unit @ unit.T / temperature, dim=1)


def feature_distance(made: Tensor, goal: Tensor, kind: MFMLoss) -> Tensor:
    """Return the mean distance of features (..., width): MSE over the width as well (our reading), or one of ours."""
    if kind is MFMLoss.cosine:
        return 1 - F.cosine_similarity(made, goal, dim=-1).mean()
    if kind is MFMLoss.normalised:
        goal = F.layer_norm(goal, goal.shape[-1:])
    return F.mse_loss(made, goal)


def masked_feature_loss(
    tower: ImageTower,
    inputs: Tensor,
    teacher: Tensor,
    order: Tensor,
    share: float,
    kind: MFMLoss = MFMLoss.mse,
) -> Tensor:
    """Return L_obs + L_unobs of masked feature modelling (paper, section 2.1).

    ``order`` is that of :meth:`ImageTower.masked`. Our reading: the teacher features are detached, and both terms are
    means over the width as well.
    """
    visible, seen, hidden, made = tower.masked(inputs, order, share)
    goal = teacher.detach()

    def at(index: Tensor) -> Tensor:
        return goal.gather(1, index[..., None].expand(-1, -1, goal.shape[-1]))

    return feature_distance(seen, at(visible), kind) + feature_distance(made, at(hidden), kind)


def masked_spot_loss(spots: SpotGenerator, z: Tensor, um: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return the cosine distance of generated z of hidden spots to their z, which is detached (ours).

    Parameters
    ----------
    z, um
        (b, d) and (b, 2), spots of one section.
    """
    hidden = torch.randperm(len(z), generator=generator)[: max(1, int(share * len(z)))].to(z.device)
    made = spots(z, um, hidden)
    return feature_distance(made, z[hidden].detach(), MFMLoss.cosine)


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


def correlation_loss(scores: Tensor, values: Tensor, grid: Tensor) -> Tensor:
    """Return 1 - the mean over genes of the Pearson correlation of the mean of the grid with the true values (ours).

    Arguments as in :func:`value_ranking`; genes that do not vary in the batch count as uncorrelated.
    """
    predicted = scores.softmax(-1) @ grid  # (b, g)
    a, b = predicted - predicted.mean(0), values - values.mean(0)
    norm = a.norm(dim=0) * b.norm(dim=0)
    loss: Tensor = 1 - ((a * b).sum(0) / norm.clamp_min(1e-6)).mean()
    return loss
