"""The image branch of CoMTIP: tiles to vectors, and masked feature modelling (Qian et al., arXiv 2509.16892).

A patch is read as pixels, as in the paper, or (ours) by its stain and texture statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from stzoo.core.nn import MLP, ViT, ViTConfig, attention
from stzoo.core.nn.vit import take
from stzoo.plugins.comtip.config import Generator, Stem, VisionConfig
from torch import Tensor, nn

VERSION = 1
"""Part of the name of a cache of statistics: raise it when :func:`compute_statistics` returns other values."""
LEVELS = 4
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of haematoxylin, eosin and a residual (Ruifrok & Johnston 2001)."""

N_STATISTICS = 4 + 4 + 2 * len(_QUANTILES) + LEVELS * 4 * 2


def compute_statistics(tiles: Tensor, patch_px: int) -> Tensor:
    """Compute the statistics of every patch.

    Parameters
    ----------
    tiles
        uint8 (b, side, side, 3), H&E.
    patch_px
        Side of a patch, a multiple of 8 that divides ``side``.

    Returns
    -------
    float32 (b, P, :data:`N_STATISTICS`), patches row by row: mean and spread of haematoxylin, eosin, residual and
    mean optical density, quantiles of both stains, and at four scales the gradient (mean, spread) and the band-pass
    energy (absolute, positive part squared) of both stains.
    """
    density = -torch.log((tiles.float() / 255).clamp_min(1 / 255)).permute(0, 3, 1, 2)  # (b, 3, h, w)
    unmix = torch.linalg.inv(F.normalize(torch.tensor(_STAINS), dim=1)).to(density.device)
    stains = torch.einsum("bchw,cs->bshw", density, unmix)
    planes = torch.cat([stains, density.mean(1, keepdim=True)], dim=1)  # (b, 4, h, w)
    found = [*_moments(planes, patch_px), _pool_quantiles(stains[:, :2], patch_px)]
    level = stains[:, :2]
    for scale in range(LEVELS):
        smooth = _smooth(level)
        gradient = _measure_gradient(smooth)
        band = level - smooth
        side = patch_px >> scale
        found += [*_moments(gradient, side), F.avg_pool2d(band.abs(), side), F.avg_pool2d(F.relu(band) ** 2, side)]
        level = F.avg_pool2d(smooth, 2)
    return torch.cat(found, dim=1).flatten(2).mT.contiguous()  # (b, P, n)


def _moments(planes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    mean = F.avg_pool2d(planes, side)
    return mean, (F.avg_pool2d(planes**2, side) - mean**2).clamp_min(0).sqrt()


def _pool_quantiles(stains: Tensor, side: int) -> Tensor:
    b, c, h, w = stains.shape
    cells = stains.view(b, c, h // side, side, w // side, side)[:, :, :, ::2, :, ::2]  # every second pixel will do
    flat = cells.permute(0, 1, 2, 4, 3, 5).flatten(4).sort(dim=-1).values  # (b, c, rows, columns, pixels)
    picks = [flat[..., round(q * (flat.shape[-1] - 1))] for q in _QUANTILES]
    return torch.stack(picks, dim=2).flatten(1, 2)  # (b, c * quantiles, rows, columns)


def _smooth(planes: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=planes.device) / 16
    c = planes.shape[1]
    across = F.conv2d(F.pad(planes, (2, 2, 0, 0), mode="replicate"), kernel.expand(c, 1, 1, 5), groups=c)
    return F.conv2d(F.pad(across, (0, 0, 2, 2), mode="replicate"), kernel.view(5, 1).expand(c, 1, 5, 1), groups=c)


def _measure_gradient(planes: Tensor) -> Tensor:
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return torch.sqrt(dx**2 + dy**2 + 1e-8)


def make_vit_config(config: VisionConfig) -> ViTConfig:
    """Return the configuration of the ViT: timm's variant, or CLIP's."""
    c = config
    if not c.clip:
        return ViTConfig(c.tile_px, c.patch_px, c.width, c.depth, c.heads)
    own = {"pre_layernorm": True, "quick_gelu": True, "patch_bias": False}
    return ViTConfig(c.tile_px, c.patch_px, c.width, c.depth, c.heads, eps=1e-5, **own)


class ImageTower(nn.Module):
    """A tile to one vector: ViT, mean over patch tokens (paper, section 2.1), linear projection.

    Parameters
    ----------
    config
        Shape, stem and context.
    out
        Width of the shared embedding space.
    generator
        What generates the features of masked patches.
    """

    def __init__(self, config: VisionConfig, out: int, generator: Generator = Generator.attention) -> None:
        super().__init__()
        self.config = config
        shape = make_vit_config(config)
        self.vit = ViT(shape)
        if config.stem is Stem.texture:
            self.vit.patch_embedding = nn.Identity()  # type: ignore[assignment]  # the statistics take its place
            self.stem = nn.Linear(N_STATISTICS, config.width)
        self.projection = nn.Linear(config.width, out, bias=False)
        skips = config.skip and config.stem is Stem.texture
        self.skip = nn.Linear(2 * N_STATISTICS, out) if skips else None
        self.context = nn.ModuleList(nn.Linear(out, out) for _ in config.context_um)
        self.generator = FeatureGenerator(config.width, shape.patches, config.heads, generator)

    def embed_tokens(self, inputs: Tensor) -> Tensor:
        """Return patch tokens (b, P, width) of statistics (b, P, n), or of pixels (b, 3, h, w) for a linear stem."""
        if self.config.stem is Stem.linear:
            return self.vit.embed_patches(inputs)
        embedded: Tensor = self.stem(inputs)
        return embedded + self.vit.position_embedding[1:]

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector of each tile alone (b, out), and the patch features Z (b, P, width)."""
        features = self.vit.encode(self.embed_tokens(inputs))[:, 1:]
        z: Tensor = self.projection(features.mean(1))
        if self.skip is not None:
            z = z + self.skip(torch.cat([inputs.mean(1), inputs.std(1)], dim=-1))
        return z, features

    def add_context(self, z: Tensor, means: Sequence[Tensor]) -> Tensor:
        """Add neighbourhood context to tile vectors: z_img (b, out), not normalised (ours).

        Parameters
        ----------
        z
            (b, out), vectors of the tiles alone.
        means
            For each width of ``context_um`` the Gaussian mean of the neighbours' z, (b, out).
        """
        for layer, mean in zip(self.context, means, strict=True):
            z = z + layer(mean)
        return z

    def encode_masked(self, inputs: Tensor, order: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode the visible patches only, and generate the features of the masked ones.

        Parameters
        ----------
        inputs
            Tiles.
        order
            int64 (b, P), a random order of the patches of each tile; the first ``share`` of them is masked.
        share
            Share of masked patches, in (0, 1).

        Returns
        -------
        Visible indices (b, v), their features (b, v, width), masked indices (b, h), generated features (b, h, width).
        """
        tokens = self.embed_tokens(inputs)
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
    """Masked feature modelling at spot level: z of masked spots from the z of visible spots around them (ours).

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
        """Generate z (h, width) of the ``hidden`` (h,) spots.

        Parameters
        ----------
        z
            (n, width), spots of one section; masked rows are not read.
        um
            (n, 2), positions in µm.
        hidden
            int64 (h,).
        """
        shown = torch.ones(len(z), dtype=torch.bool, device=z.device)
        shown[hidden] = False
        place = self.place(self._encode_positions(um - um.mean(0)))
        seen = z[shown] + place[shown]
        q, k, v = (self._split(x) for x in (self.to_q(place[hidden]), self.to_k(seen), self.to_v(seen)))
        made = attention(q, k, v)[0].transpose(0, 1).flatten(1)
        generated: Tensor = made + self.out(made)
        return generated

    def _encode_positions(self, um: Tensor) -> Tensor:
        waves = torch.tensor(self.WAVES_UM, device=um.device)
        angles = (2 * math.pi * um[:, :, None] / waves).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(1, len(x), self.heads, -1).transpose(1, 2)
