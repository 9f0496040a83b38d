"""The network of ``vit``: pixels of tiles to embeddings."""

from __future__ import annotations

from dataclasses import fields

import torch
from stzoo.core.nn import ViT, ViTConfig
from stzoo.plugins.vit.config import Pool, ViTEncoderConfig
from torch import Tensor, nn


class Tower(nn.Module):
    """A ViT with what stands around it: normalisation of pixels, pooling of tokens, CLIP's projection.

    Parameters
    ----------
    config
        The shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViTEncoderConfig) -> None:
        super().__init__()
        self.pool = config.pool
        shape = {f.name: getattr(config, f.name) for f in fields(ViTConfig) if hasattr(config, f.name)}
        self.vit = ViT(ViTConfig(**shape))
        self.projection = nn.Linear(config.width, config.projection, bias=False) if config.projection else nn.Identity()
        # they belong to the config, and so not to the saved tensors
        self.register_buffer("mean", torch.tensor(config.mean, device="cpu"), persistent=False)
        self.register_buffer("std", torch.tensor(config.std, device="cpu"), persistent=False)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return float32 embeddings (n, projection or width) of tiles, uint8 RGB (n, image_px, image_px, 3)."""
        pixels = ((tiles.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)  # (n, 3, image_px, image_px)
        tokens = self.vit(pixels)  # (n, 1 + P, width), the class token first
        pooled = tokens[:, 0] if self.pool is Pool.class_token else tokens[:, 1:].mean(dim=1)
        embedding: Tensor = self.projection(pooled)
        return embedding
