"""The hybrid attention block (HAB) of CDCIN: attention in windows beside channel attention.

Written from the specification, section 2.4; the idea is that of HAT (Chen et al. 2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from stzoo.core.nn import MLP, attention
from torch import Tensor, nn

WINDOW = 8
"""Side of an attention window, in places."""
HEADS = 4
CHANNEL_WEIGHT = 0.01
"""Weight of the channel attention branch."""


class WindowAttention(nn.Module):
    """Self-attention within windows of 8 x 8, with a learned bias for each relative position.

    Parameters
    ----------
    channels
        Width of a token; divisible by :data:`HEADS`.
    shift
        Places by which the windows are shifted to the bottom right; a window that the shift wraps around the border
        is cut into the parts that really are neighbours.
    """

    offset: Tensor

    def __init__(self, channels: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, HEADS))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("offset", _relative_positions(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply self-attention within windows of (b, H, W, c); any H and W (padding is masked)."""
        b, height, width, c = x.shape
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        x = torch.roll(x, (-self.shift, -self.shift), dims=(1, 2))
        windows = _split(x)  # (b, n, 64, c)
        n = windows.shape[1]
        qkv = self.qkv(windows).view(b, n, WINDOW**2, 3, HEADS, c // HEADS)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)  # (b, n * heads, 64, c / heads)
        bias = self.bias[self.offset].permute(2, 0, 1)  # (heads, 64, 64)
        mask = _together(height, width, self.shift, x.device)  # (n, 64, 64) or None
        out = attention(
            q,
            k,
            v,
            bias=bias.repeat(n, 1, 1)[None],
            mask=None if mask is None else mask.repeat_interleave(HEADS, 0)[None],
        )
        out = out.view(b, n, HEADS, WINDOW**2, c // HEADS).transpose(2, 3).flatten(3)  # (b, n, 64, c)
        out = _join(self.proj(out), x.shape[1], x.shape[2])
        return torch.roll(out, (self.shift, self.shift), dims=(1, 2))[:, :height, :width]


class ChannelAttention(nn.Module):
    """Two convolutions, and a weight for each channel from its mean over the window (CAB)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, squeezed = max(1, channels // 4), max(1, channels // 8)
        self.body = nn.Sequential(
            nn.Conv2d(channels, narrow, 3, padding=1), nn.GELU(), nn.Conv2d(narrow, channels, 3, padding=1)
        )
        self.weight = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of (b, c, H, W)."""
        x = self.body(x)
        weighed: Tensor = x * self.weight(x)
        return weighed


class HybridAttentionBlock(nn.Module):
    """``x' = x + attention(LN(x)) + 0.01 CAB(LN(x))``, then ``x' + MLP(LN(x'))``.

    Parameters
    ----------
    channels
        Feature channels; 18,544 parameters at 32.
    shift
        See :class:`WindowAttention`.
    """

    def __init__(self, channels: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, shift)
        self.channel = ChannelAttention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (b, c, H, W)."""
        tokens = x.permute(0, 2, 3, 1)  # (b, H, W, c)
        y = self.norm1(tokens)
        channel = self.channel(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tokens = tokens + self.attention(y) + CHANNEL_WEIGHT * channel
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out.permute(0, 3, 1, 2)


def _split(x: Tensor) -> Tensor:
    """Cut (b, H, W, c), H and W multiples of 8, into windows: (b, H W / 64, 64, c)."""
    b, height, width, c = x.shape
    x = x.view(b, height // WINDOW, WINDOW, width // WINDOW, WINDOW, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, -1, WINDOW**2, c)


def _join(windows: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`_split`."""
    b, _, _, c = windows.shape
    x = windows.view(b, height // WINDOW, width // WINDOW, WINDOW, WINDOW, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(b, height, width, c)


def _relative_positions() -> Tensor:
    """Return the row of the bias table for each pair of places of a window, int64 (64, 64)."""
    at = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))  # (64, 2)
    apart = at[:, None] - at[None] + WINDOW - 1  # (64, 64, 2), from 0
    return apart[..., 0] * (2 * WINDOW - 1) + apart[..., 1]


def _together(height: int, width: int, shift: int, device: torch.device) -> Tensor | None:
    """Return the attention mask of each shifted window, bool (n, 64, 64); None where nothing is masked.

    The authors add -100 to the scores of the others, to the same effect. Padding is a region of its own.
    """
    if shift == 0 and height % WINDOW == 0 and width % WINDOW == 0:
        return None
    rows, cols = (_regions(size, shift, device) for size in (height, width))
    label = rows[:, None] * 4 + cols  # (H, W), padded
    windows = _split(label[None, ..., None])[0, :, :, 0]  # (n, 64)
    return windows[:, :, None] == windows[:, None, :]


def _regions(size: int, shift: int, device: torch.device) -> Tensor:
    """Give each part of a shifted axis a number, int64 (padded,): 0, what wrapped around 1, the padding 2."""
    padded = size + -size % WINDOW
    at = torch.arange(padded, device=device)
    came_from = (at + shift) % padded
    wrapped = (at + shift >= padded).long()
    return torch.where(came_from >= size, 2, wrapped)
