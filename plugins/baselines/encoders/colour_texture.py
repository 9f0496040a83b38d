"""Hand-made features of H&E patches: stain statistics, texture at several scales, and their surroundings.

No weights and nothing learned: the honest bar for every image encoder. The recipe was chosen on three sections of one
patient (her2st C2, C3, C4), leaving one out at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from stzoo import BlockShare, ConfigError, Encoder, Progress, Section, head_descriptions, head_tensors, take_heads
from stzoo.core.arrays import Floats, Pixels, Points
from stzoo.core.runtime.blocks import stack_blocks
from stzoo.plugins.baselines.encoders._surroundings import PatchEmbedding
from stzoo.plugins.baselines.encoders.texture import N_FEATURES, patch_features

if TYPE_CHECKING:
    import torch


@dataclass
class ColourTextureConfig:
    """Options of ``colour-texture``.

    Parameters
    ----------
    tile_px, mpp
        A patch is ``tile_px`` pixels wide at ``mpp`` µm/px: by default 224 µm, a spot and its surroundings.
    context_um
        Standard deviations, µm, of Gaussian means over the patches of neighbouring spots, which are added to the
        features of a spot.
    """

    tile_px: int = 224
    mpp: float = 1.0
    context_um: list[float] = field(default_factory=lambda: [200.0, 400.0])

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        where = "config of 'colour-texture'"
        if self.tile_px < 32:
            raise ConfigError(f"tile_px is {self.tile_px}, expected at least 32", where=where)
        if not self.mpp > 0 or any(not width > 0 for width in self.context_um):
            raise ConfigError(f"mpp {self.mpp} and context_um {self.context_um} must be above 0", where=where)


class ColourTexture(Encoder):
    """Stain and texture statistics of a patch (:func:`~stzoo.plugins.baselines.encoders.texture.patch_features`).

    A slide-level encoder: features are averaged over neighbouring spots as well, and every feature is standardised
    over the spots of its section, since stain and background differ from slide to slide. A section of one spot
    therefore embeds as zeros, and predicts as the training mean.
    """

    name = "colour-texture"
    config_class = ColourTextureConfig
    config: ColourTextureConfig

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return N_FEATURES * (1 + len(self.config.context_um))

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot (see :class:`Encoder`)."""
        blocks = self.embed_blocks(section, batch_size=batch_size, progress=progress)
        return stack_blocks(blocks, section.n_spots, self.embedding_dim)

    def embed_blocks(
        self,
        section: Section,
        share: BlockShare | None = None,
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Iterator[tuple[slice, Floats]]:
        """Embed block by block (see :class:`Encoder`)."""
        own = self.config
        recipe = PatchEmbedding(_features, N_FEATURES, own.tile_px, own.mpp, own.context_um, standardise=True)
        yield from recipe.blocks(section, share or BlockShare(section.n_spots), batch_size, progress)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the fitted heads; the encoder has none."""
        return head_tensors(self.fitted_heads)

    def description(self) -> dict[str, Any]:
        """Return the fitted heads' genes and settings."""
        return {"heads": head_descriptions(self.fitted_heads)}

    def restore(
        self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]
    ) -> None:
        """Take over saved heads (see :class:`Model`)."""
        super().restore(take_heads(self, state, description), description, assets)


def _features(tiles: Pixels) -> Points:
    return np.array([patch_features(tile) for tile in tiles])
