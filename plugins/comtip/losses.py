"""The losses of CoMTIP (Qian et al., arXiv 2509.16892, sections 2.1 to 2.4; what is ours says so)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from stzoo.plugins.comtip.config import MFMLoss, Paat
from stzoo.plugins.comtip.image_tower import ImageTower, SpotGenerator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


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
        (b, d), an additional negative for each image, e.g. its profile with permuted values (ours).
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
    """Return the mean distance of features (..., width): MSE, also over the width (our reading), or one of ours."""
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

    ``order`` is that of :meth:`ImageTower.encode_masked`. Our reading: the teacher features are detached, and both
    terms are means over the width as well.
    """
    visible, seen, hidden, made = tower.encode_masked(inputs, order, share)
    goal = teacher.detach()

    def at(index: Tensor) -> Tensor:
        return goal.gather(1, index[..., None].expand(-1, -1, goal.shape[-1]))

    return feature_distance(seen, at(visible), kind) + feature_distance(made, at(hidden), kind)


def masked_spot_loss(spots: SpotGenerator, z: Tensor, um: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return the cosine distance between generated z of masked spots and their detached z (ours).

    Parameters
    ----------
    z, um
        (b, d) and (b, 2), spots of one section.
    """
    hidden = torch.randperm(len(z), generator=generator)[: max(1, int(share * len(z)))].to(z.device)
    made = spots(z, um, hidden)
    return feature_distance(made, z[hidden].detach(), MFMLoss.cosine)


def value_ranking(scores: Tensor, values: Tensor, grid: Tensor) -> Tensor:
    """Return the cross-entropy of the true value over a grid, with soft labels around it (ours; section 7).

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
    """Return 1 - Pearson correlation of predicted (softmax-weighted) and true values, mean over genes (ours).

    Arguments as in :func:`value_ranking`; genes that do not vary in the batch count as uncorrelated.
    """
    predicted = scores.softmax(-1) @ grid  # (b, g)
    a, b = predicted - predicted.mean(0), values - values.mean(0)
    norm = a.norm(dim=0) * b.norm(dim=0)
    loss: Tensor = 1 - ((a * b).sum(0) / norm.clamp_min(1e-6)).mean()
    return loss


class Discriminator(nn.Module):
    """Scores vectors: width -> 256 -> 1, spectral norms (unstated in the paper: our reading, specification 2.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Linear(width, 256)), nn.LeakyReLU(0.2), spectral_norm(nn.Linear(256, 1))
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return scores (...,) of vectors (..., width), normalised here."""
        scores: Tensor = self.layers(F.normalize(z, dim=-1))[..., 0]
        return scores


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grads[0], None


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; gradients through it are multiplied by ``-factor`` (paper, section 2.3)."""
    out: Tensor = _Reverse.apply(x, factor)  # type: ignore[no-untyped-call]
    return out


def shuffle_values(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return values (b, g) permuted across the genes of each sample by itself.

    Paper: all genes. Ours: with ``share`` below 1 a random share of them, the same for the whole batch.
    """
    b, g = values.shape
    moved = torch.randperm(g, generator=generator)[: max(2, round(share * g))]
    order = torch.rand(b, len(moved), generator=generator).argsort(1).to(values.device)
    moved = moved.to(values.device)
    out = values.clone()
    out[:, moved] = values[:, moved].gather(1, order)
    return out


def pair_loss(kind: Paat, judge: Discriminator, matched: Tensor, shuffled: Tensor, reversal: float) -> Tensor:
    """Return L_pair, to be minimised by the discriminator and the encoder together.

    The paper's sign cannot be recovered, and the signed form contradicts its stated aim (specification, section 2.3):
    ``paper`` takes the absolute gap of the mean scores, which the discriminator closes and the encoder, behind
    the reversal, widens; in ``critic`` both widen the signed gap. Both are our readings. ``pairs`` is ours.

    Parameters
    ----------
    matched, shuffled
        Pooled vectors (b, d), or vectors of single pairs (b, g, d) for ``pairs``.
    reversal
        Factor of the reversed gradient.
    """
    if kind is Paat.paper:
        scores = [judge(reverse_gradient(z, reversal)).mean() for z in (matched, shuffled)]
        gap: Tensor = (scores[0] - scores[1]).abs()
        return gap
    right, wrong = judge(matched), judge(shuffled)
    if kind is Paat.critic:
        reversed_gap: Tensor = wrong.mean() - right.mean()
        return reversed_gap
    apart: Tensor = 0.5 * (F.softplus(-right).mean() + F.softplus(wrong).mean())
    return apart
