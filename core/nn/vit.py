"""A vision transformer as CLIP and timm have it, which also runs on a subset of its patches.

Images to tokens in two steps, so that tokens can be left out between them (masked feature modelling)::

    patches = vit.embed_patches(images)             # (b, P, width), positions added
    tokens = vit.encode(take(patches, visible))     # (b, 1 + visible, width), class token first
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.nn.transformer import Block, initialise
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a :class:`ViT`; the defaults are those of ``comtip-tiny``.

    Parameters
    ----------
    image_px, patch_px
        Side of the image and of a patch; the first is a multiple of the second.
    width, depth, heads
        Width of a token, number of blocks, heads of a block.
    mlp_ratio
        Hidden width of the MLPs, in widths of a token.
    pre_layernorm
        Normalise tokens before the first block (CLIP has it, timm has not).
    quick_gelu
        CLIP's activation instead of GELU.
    patch_bias
        Bias of the patch embedding (timm has it, CLIP has not).
    eps
        Epsilon of the layer norms: 1e-5 in CLIP, 1e-6 in timm.
    dropout
        Share of attention weights dropped in training.
    """

    image_px: int = 224
    patch_px: int = 32
    width: int = 192
    depth: int = 6
    heads: int = 3
    mlp_ratio: float = 4.0
    pre_layernorm: bool = False
    quick_gelu: bool = False
    patch_bias: bool = True
    eps: float = 1e-6
    dropout: float = 0.0

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_px // self.patch_px

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.grid**2


class ViT(nn.Module):
    """Vision transformer: patches, class token, positions, pre-norm blocks, final norm.

    Parameters
    ----------
    config
        The shape.

    Notes
    -----
    Dosovitskiy et al., ICLR 2021; variants of CLIP (Radford et al., ICML 2021) by :class:`ViTConfig`. Row 0 of
    ``position_embedding`` is the class token's, as in both families of checkpoints.
    """

    def __init__(self, config: ViTConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ViTConfig()
        if c.patch_px < 1 or c.image_px % c.patch_px:
            raise ConfigError(f"image of {c.image_px} px does not divide into patches of {c.patch_px} px")
        self.patch_embedding = nn.Conv2d(3, c.width, c.patch_px, stride=c.patch_px, bias=c.patch_bias)
        self.class_embedding = nn.Parameter(torch.zeros(c.width))
        self.position_embedding = nn.Parameter(torch.zeros(1 + c.patches, c.width))
        self.pre_layernorm = nn.LayerNorm(c.width, eps=c.eps) if c.pre_layernorm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, mlp_ratio=c.mlp_ratio, quick_gelu=c.quick_gelu, eps=c.eps, dropout=c.dropout)
            for _ in range(c.depth)
        )
        self.layernorm = nn.LayerNorm(c.width, eps=c.eps)
        initialise(self)
        nn.init.trunc_normal_(self.class_embedding, std=0.02, a=-0.04, b=0.04)
        nn.init.trunc_normal_(self.position_embedding, std=0.02, a=-0.04, b=0.04)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Cut images into patches and add each patch's position.

        Parameters
        ----------
        images
            (b, 3, image_px, image_px), normalised as the weights want it.

        Returns
        -------
        (b, P, width), row by row from the top left.

        Raises
        ------
        DataError
            Images of another size or number of channels.
        """
        side = self.config.image_px
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise DataError(f"the network takes images (b, 3, {side}, {side}), not {tuple(images.shape)}")
        patches: Tensor = self.patch_embedding(images)  # (b, width, grid, grid)
        return patches.flatten(2).mT + self.position_embedding[1:]

    def encode(self, patches: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Run the blocks on some patches, in any order: their positions are in them already.

        Parameters
        ----------
        patches
            (b, n, width) from :meth:`embed_patches`; n may be less than P.
        mask
            bool (b, n), True for real patches; padding is looked at by nobody. None: all are real.

        Returns
        -------
        (b, 1 + n, width) after the final norm; the class token first.
        """
        b = patches.shape[0]
        first = (self.class_embedding + self.position_embedding[0]).expand(b, 1, -1)
        tokens = self.pre_layernorm(torch.cat([first, patches], dim=1))  # (b, 1 + n, width)
        if mask is not None:
            mask = torch.cat([mask.new_ones(b, 1), mask], dim=1)[:, None, None, :]  # (b, 1, 1, 1 + n)
        for block in self.blocks:
            tokens = block(tokens, mask=mask)
        normed: Tensor = self.layernorm(tokens)
        return normed

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (b, 1 + P, width) of images (b, 3, image_px, image_px)."""
        return self.encode(self.embed_patches(images))


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Return tokens (b, k, width) at ``index`` (b, k), int64, of tokens (b, n, width)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
