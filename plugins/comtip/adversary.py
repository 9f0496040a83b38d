"""Pair-aware adversarial training (PAAT): a profile must not look like its copy with permuted values."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from stzoo.plugins.comtip.config import Paat
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


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


def reversed_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; gradients through it are multiplied by ``-factor`` (paper, section 2.3)."""
    out: Tensor = _Reverse.apply(x, factor)  # type: ignore[no-untyped-call]
    return out


def shuffled_values(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
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
        scores = [judge(reversed_gradient(z, reversal)).mean() for z in (matched, shuffled)]
        gap: Tensor = (scores[0] - scores[1]).abs()
        return gap
    right, wrong = judge(matched), judge(shuffled)
    if kind is Paat.critic:
        reversed_gap: Tensor = wrong.mean() - right.mean()
        return reversed_gap
    apart: Tensor = 0.5 * (F.softplus(-right).mean() + F.softplus(wrong).mean())
    return apart
