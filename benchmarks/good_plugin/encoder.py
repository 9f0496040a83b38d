"""Mean and spread of the colours around a spot, mixed by a fixed matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.encoder import Encoder
from stzoo.core.heads.base import head_descriptions, head_tensors, take_heads
from stzoo.core.weights.repository import restore_module


@dataclass
class GoodConfig:
    """Options.

    Parameters
    ----------
    tile_px, mpp
        A patch is ``tile_px`` pixels wide at ``mpp`` µm/px.
    width
        Width of the embedding.
    """

    tile_px: int = 96
    mpp: float = 1.0
    width: int = 8


class Good(Encoder):
    """Colours around a spot."""

    name = "good-encoder"
    config_class = GoodConfig

    def __init__(self, config=None, *, device="cpu", seed=0):
        super().__init__(config, device=device, seed=seed)
        self.mix = torch.nn.Linear(6, self.config.width)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for tensor in self.mix.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    @property
    def embedding_dim(self):
        """Width of the embedding."""
        return self.config.width

    def embed(self, section, *, batch_size=64, progress=None):
        """Embed every spot."""
        slide, centres = section.require_slide(), section.pixels
        out = np.empty((len(centres), self.embedding_dim), dtype=np.float32)
        for start in range(0, len(centres), batch_size):
            some = centres[start : start + batch_size]
            tiles = slide.tiles(some, size_px=self.config.tile_px, mpp=self.config.mpp) / 255.0
            features = np.hstack([tiles.mean(axis=(1, 2)), tiles.std(axis=(1, 2))])
            with torch.inference_mode():
                mixed = self.mix(torch.from_numpy(features).float().to(self.device)).cpu()
            out[start : start + len(some)] = mixed.numpy()
            if progress:
                progress(start + len(some), len(centres))
        return out

    def to(self, device):
        """Move the matrix."""
        self.mix.to(device)
        return super().to(device)

    def state(self):
        """Return the matrix and the heads."""
        return {**self.mix.state_dict(), **head_tensors(self.fitted_heads)}

    def description(self):
        """Return what the heads say of themselves."""
        return {"heads": head_descriptions(self.fitted_heads)}

    def restore(self, state, description, assets):
        """Take over matrix and heads."""
        restore_module(self.mix, take_heads(self, state, description))
