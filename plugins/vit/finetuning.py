"""A published image encoder made ready for fine-tuning: the tiles of the spots, augmented, through its tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from stzoo import Ranks, Section, Tunable
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.slides import Spots, cache_rows, tile_rows
from stzoo.core.tunable import Batch
from stzoo.plugins.vit.config import ViTEncoderConfig
from stzoo.plugins.vit.tower import Tower
from torch import Tensor, nn

JITTER = 0.1
"""Spread of the random factors of the channels and of the brightness of a tile (our choice)."""


class ViTTuning(Tunable):
    """The tower; tiles are read from the slides once, into a cache on disk, and from there batch by batch.

    Parameters
    ----------
    tower
        The network, tuned in place.
    config
        Size and µm/px of the tiles.
    sections
        Whose measured spots are learned from.
    cache
        Folder for what is read of the slides.
    ranks
        The processes that share a batch.
    """

    def __init__(
        self, tower: Tower, config: ViTEncoderConfig, sections: Sequence[Section], cache: Path, ranks: Ranks = ALONE
    ) -> None:
        self.tower, self.ranks = tower, ranks
        spots = [Spots(one.name, one.require_slide(), one.pixels[one.counted]) for one in sections]
        self.tiles = cache_rows(cache, spots, tile_rows(config.image_px, config.mpp))
        tower.requires_grad_(True)

    def module(self) -> nn.Module:
        """Return the tower (see :class:`Tunable`)."""
        return self.tower

    def adapted_layers(self) -> list[str]:
        """Return the linear layers of the blocks, and the projection where there is one."""
        named = self.tower.named_modules()
        return [name for name, part in named if isinstance(part, nn.Linear)]

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw spots of all sections."""
        return torch.randperm(len(self.tiles), generator=generator)[:size]

    def batch(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        """Embed spots whose tiles are turned, mirrored, and changed in brightness and colour."""
        mine = self.ranks.share(len(chosen))
        tiles = torch.from_numpy(self.tiles[chosen[mine].numpy()]).float()
        pose = int(torch.randint(8, (1,), generator=generator))
        tiles = torch.rot90(tiles, pose // 2, (1, 2))
        tiles = tiles.flip(2) if pose % 2 else tiles
        factor = 1 + JITTER * torch.randn(len(chosen), 1, 1, 3, generator=generator)
        factor = factor * (1 + JITTER * torch.randn(len(chosen), 1, 1, 1, generator=generator))
        tiles = (tiles * factor[mine]).clamp(0, 255)
        return Batch(self.tower(tiles.to(self.tower.mean.device)), {})

    def finish(self, sections: Sequence[Section]) -> None:
        """Freeze the tower."""
        self.tower.requires_grad_(False).eval()
