"""A published image encoder made ready for fine-tuning: the tiles of the spots, augmented, through its tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from stzoo.core.data.section import Section
from stzoo.core.data.splits import usable
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.slides.tile_cache import Spots, cached_rows, tile_rows
from stzoo.core.tunable import Batch, Tunable
from torch import Tensor, nn

if TYPE_CHECKING:
    from stzoo.plugins.vit.model import ViTEncoder

JITTER = 0.1
"""Spread of the random factors of the channels and of the brightness of a tile (our choice)."""


class ViTTuning(Tunable):
    """The tower; tiles are read from the slides once, into a cache on disk, and from there batch by batch.

    Parameters
    ----------
    model
        Its tower is tuned in place.
    sections
        Whose measured spots are learned from.
    cache
        Folder for what is read of the slides.
    ranks
        The processes that share a batch.
    """

    def __init__(self, model: ViTEncoder, sections: Sequence[Section], cache: Path, ranks: Ranks = ALONE) -> None:
        self.model, self.ranks = model, ranks
        spots = [Spots(one.name, one.require_slide(), one.pixels[usable(one)]) for one in sections]
        self.tiles = cached_rows(cache, spots, tile_rows(model.config.image_px, model.config.mpp))
        model.tower.requires_grad_(True)

    def module(self) -> nn.Module:
        """Return the tower (see :class:`Tunable`)."""
        return self.model.tower

    def adapted(self) -> list[str]:
        """Return the linear layers of the blocks, and the projection where there is one."""
        named = self.model.tower.named_modules()
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
        return Batch(self.model.tower(tiles.to(self.model.device)), {})

    def finish(self, sections: Sequence[Section]) -> None:
        """Freeze the tower."""
        self.model.tower.requires_grad_(False).eval()
