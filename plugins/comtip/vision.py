"""The image branch of CoMTIP: tiles to vectors, and masked feature modelling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from stzoo.core.nn.attention import attention
from stzoo.core.nn.blocks import MLP
from stzoo.core.nn.vit import ViT, ViTConfig, take
from stzoo.plugins.comtip.config import Generator, Stem, VisionConfig
from stzoo.plugins.comtip.texture import N_STATISTICS
from torch import Tensor, nn


def vit_shape(config: VisionConfig) -> ViTConfig:
    """Return the shape of the ViT: timm's variant, or CLIP's."""
    c = config
    if not c.clip:
        return ViTConfig(c.tile_px, c.patch_px, c.width, c.depth, c.heads)
    own = {"pre_layernorm": True, "quick_gelu": True, "patch_bias": False}
    return ViTConfig(c.tile_px, c.patch_px, c.width, c.depth, c.heads, eps=1e-5, **own)


class ImageTower(nn.Module):
    """Tokens of a tile to one vector: ViT, mean over patches (paper, section 2.1), linear projection.

    Parameters
    ----------
    config
        Shape, stem and context.
    out
        Width of the shared space.
    generator
        What makes the features of hidden patches.
    """

    def __init__(self, config: VisionConfig, out: int, generator: Generator = Generator.attention) -> None:
        super().__init__()
        self.config = config
        shape = vit_shape(config)
        self.vit = ViT(shape)
        if config.stem is Stem.texture:
            self.vit.patch_embedding = nn.Identity()  # type: ignore[assignment]  # the statistics take its place
            self.stem = nn.Linear(N_STATISTICS, config.width)
        self.projection = nn.Linear(config.width, out, bias=False)
        skips = config.skip and config.stem is Stem.texture
        self.skip = nn.Linear(2 * N_STATISTICS, out) if skips else None
        self.context = nn.ModuleList(nn.Linear(out, out) for _ in config.context_um)
        self.generator = FeatureGenerator(config.width, shape.patches, config.heads, generator)

    def tokens(self, inputs: Tensor) -> Tensor:
        """Embed patches, (b, P, width), of statistics (b, P, n), or of pixels (b, 3, h, w) for a linear stem."""
        if self.config.stem is Stem.linear:
            return self.vit.embed_patches(inputs)
        embedded: Tensor = self.stem(inputs)
        return embedded + self.vit.position_embedding[1:]

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector of each tile by itself (b, out), and the patch features Z (b, P, width)."""
        features = self.vit.encode(self.tokens(inputs))[:, 1:]
        z: Tensor = self.projection(features.mean(1))
        if self.skip is not None:
            z = z + self.skip(torch.cat([inputs.mean(1), inputs.std(1)], dim=-1))
        return z, features

    def placed(self, z: Tensor, means: Sequence[Tensor]) -> Tensor:
        """Return z_img (b, out), not normalised, of tiles among their neighbours (ours).

        Parameters
        ----------
        z
            (b, out), tiles by themselves.
        means
            For each width of ``context_um`` the mean over the neighbours' z, (b, out).
        """
        for layer, mean in zip(self.context, means, strict=True):
            z = z + layer(mean)
        return z

    def masked(self, inputs: Tensor, order: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode visible patches only and generate the features of the hidden ones.

        Parameters
        ----------
        inputs
            Tiles.
        order
            int64 (b, P), the patches of each tile at random; the first ``share`` of them is hidden.
        share
            Share of hidden patches, in (0, 1).

        Returns
        -------
        Visible indices (b, v), their features (b, v, width), hidden indices (b, h), generated features (b, h, width).
        """
        tokens = self.tokens(inputs)
        n = tokens.shape[1]
        visible, hidden = order[:, math.floor(n * share) :], order[:, : math.floor(n * share)]
        seen = self.vit.encode(take(tokens, visible))[:, 1:]
        return visible, seen, hidden, self.generator(seen, hidden)


class FeatureGenerator(nn.Module):
    """Mask Feature Generator: one single-head cross-attention with a learned query for every position.

    Paper, section 2.1; that it is single-head and without bias or output projection is our reading.

    Parameters
    ----------
    width, patches
        Width of a token, patches of a tile.
    heads
        Heads of the block.
    kind
        The paper's layer alone, or followed by an MLP block (ours).
    """

    def __init__(self, width: int, patches: int, heads: int = 1, kind: Generator = Generator.attention) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        block = kind is Generator.block
        self.heads = heads if block else 1
        self.mlp = nn.Sequential(nn.LayerNorm(width), MLP(width, 4 * width)) if block else None

    def forward(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """Return features (b, h, width) of ``hidden`` (b, h) positions from those of the visible ones (b, v, width)."""
        query = self.query[hidden]
        q, k, v = (self._split(x) for x in (self.to_q(query), self.to_k(seen), self.to_v(seen)))
        made = attention(q, k, v).transpose(1, 2).flatten(2)
        return made if self.mlp is None else made + query + self.mlp(made + query)

    def _split(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        return x.view(b, n, self.heads, width // self.heads).transpose(1, 2)


class SpotGenerator(nn.Module):
    """Masked feature modelling one level up: z of hidden spots from those of visible spots around them (ours).

    Parameters
    ----------
    width
        Width of z.
    heads
        Heads of its one cross-attention layer.
    """

    WAVES_UM = (200.0, 400.0, 800.0, 1600.0)
    """Wavelengths of the position code, µm."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Linear(4 * len(self.WAVES_UM), width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Sequential(nn.LayerNorm(width), MLP(width, 2 * width))

    def forward(self, z: Tensor, um: Tensor, hidden: Tensor) -> Tensor:
        """Return z (h, width) of the ``hidden`` (h,) spots.

        Parameters
        ----------
        z
            (n, width) of spots of one section; rows that are hidden are not read.
        um
            (n, 2), positions in µm.
        hidden
            int64 (h,).
        """
        shown = torch.ones(len(z), dtype=torch.bool, device=z.device)
        shown[hidden] = False
        place = self.place(self._code(um - um.mean(0)))
        seen = z[shown] + place[shown]
        q, k, v = (self._split(x) for x in (self.to_q(place[hidden]), self.to_k(seen), self.to_v(seen)))
        made = attention(q, k, v)[0].transpose(0, 1).flatten(1)
        generated: Tensor = made + self.out(made)
        return generated

    def _code(self, um: Tensor) -> Tensor:
        waves = torch.tensor(self.WAVES_UM, device=um.device)
        angles = (2 * math.pi * um[:, :, None] / waves).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(1, len(x), self.heads, -1).transpose(1, 2)
