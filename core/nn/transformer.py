"""Transformer blocks that the image and text towers share (pre-norm, as CLIP and timm have them)."""

from __future__ import annotations

import torch
from stzoo.core.errors import ConfigError
from stzoo.core.nn.scaled_dot_product import attention
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of tokens that were read before, each (b, heads, n, width / heads)."""


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values (timm's layout).

    Parameters
    ----------
    width
        Width of a token; divisible by ``heads``.
    heads
        Number of heads.
    dropout
        Share of attention weights dropped in training.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"width {width} is not divisible by {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, *, mask: Tensor | None = None, causal: bool = False, past: KeysValues | None = None
    ) -> Tensor:
        """Let tokens (b, n, width) look at each other.

        Parameters
        ----------
        tokens
            (b, n, width).
        mask, causal
            As in :func:`stzoo.core.nn.scaled_dot_product.attention`.
        past
            Keys and values of m earlier tokens, which are looked at too and stand first: the mask is over m + n.

        Returns
        -------
        (b, n, width).
        """
        q, k, v = self.project(tokens)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        return self.attend(q, k, v, mask=mask, causal=causal)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of tokens (b, n, width), each (b, heads, n, width / heads)."""
        b, n, width = tokens.shape
        qkv = self.qkv(tokens).view(b, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return what queries (b, heads, n, d) read from keys and values (b, heads, m, d), as (b, n, width)."""
        dropout = self.dropout if self.training else 0.0
        out = attention(q, k, v, mask=mask, causal=causal, dropout=dropout)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP and of PLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element."""
        return x * torch.sigmoid(1.702 * x)


class MLP(nn.Sequential):
    """Two linear layers with an activation between: ``fc1``, ``act``, ``fc2``."""

    def __init__(self, width: int, hidden: int, *, quick_gelu: bool = False) -> None:
        super().__init__()
        self.add_module("fc1", nn.Linear(width, hidden))
        self.add_module("act", QuickGELU() if quick_gelu else nn.GELU())
        self.add_module("fc2", nn.Linear(hidden, width))


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each added to what it was given the norm of.

    Parameters
    ----------
    width, heads
        Width of a token, and heads of the attention.
    mlp_ratio
        Hidden width of the MLP, in widths of a token.
    quick_gelu
        CLIP's activation instead of GELU.
    eps
        Epsilon of the layer norms: 1e-5 in CLIP, 1e-6 in timm.
    dropout
        Share of attention weights dropped in training.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        quick_gelu: bool = False,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, round(width * mlp_ratio), quick_gelu=quick_gelu)

    def forward(
        self, tokens: Tensor, *, mask: Tensor | None = None, causal: bool = False, past: KeysValues | None = None
    ) -> Tensor:
        """Take tokens (b, n, width) one layer further; options as of :class:`SelfAttention`."""
        return self._add(tokens, self.attention(self.norm1(tokens), mask=mask, causal=causal, past=past))

    def keep(self, tokens: Tensor) -> tuple[Tensor, KeysValues]:
        """Take tokens (b, n, width) one layer further, causally; return their keys and values too."""
        q, k, v = self.attention.project(self.norm1(tokens))
        return self._add(tokens, self.attention.attend(q, k, v, causal=True)), (k, v)

    def _add(self, tokens: Tensor, attended: Tensor) -> Tensor:
        tokens = tokens + attended
        further: Tensor = tokens + self.mlp(self.norm2(tokens))
        return further


def initialise(module: nn.Module, *, std: float = 0.02) -> None:
    """Draw linear and convolution weights from a normal cut at two sigma, and set their biases to 0 (as timm does)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
