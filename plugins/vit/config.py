"""Options of ``vit``: the shape of a published image encoder, and how a tile is shown to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from stzoo import ConfigError

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and spread of RGB in [0, 1] that OpenAI's CLIP and PLIP were trained with."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and spread of RGB in [0, 1] over ImageNet, which DINO and most ViTs were trained with."""


class Pool(Enum):
    """Which of the tokens become the embedding."""

    class_token = "class_token"
    mean_patches = "mean_patches"
    """The mean of all tokens but the class token."""


@dataclass
class ViTEncoderConfig:
    """Options of ``vit``; the defaults are those of DINO ViT-B/16.

    Parameters
    ----------
    image_px, patch_px
        Side of the image and of a patch, pixels; the first is a multiple of the second.
    width, depth, heads
        Width of a token, number of blocks, heads of a block.
    mlp_ratio
        Hidden width of the MLPs, in widths of a token.
    pre_layernorm, quick_gelu, patch_bias
        CLIP's norm before the first block and its activation; timm's and DINO's bias of the patch embedding.
    eps
        Epsilon of the layer norms: 1e-5 in CLIP, 1e-6 in timm, 1e-12 in transformers' ViT.
    projection
        Width of CLIP's shared space, into which the pooled token is mapped; 0: there is none.
    pool
        Which tokens become the embedding, after the final norm.
    mean, std
        Normalisation of RGB in [0, 1], as the weights were trained with.
    mpp
        µm/px that tiles are resampled to. Our choice, since checkpoints do not say theirs: 224 px at 0.5 µm/px (20x)
        are 112 µm, about a Visium spot and its surroundings.
    """

    image_px: int = 224
    patch_px: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    pre_layernorm: bool = False
    quick_gelu: bool = False
    patch_bias: bool = True
    eps: float = 1e-6
    projection: int = 0
    pool: Pool = Pool.class_token
    mean: list[float] = field(default_factory=lambda: list(IMAGENET_MEAN))
    std: list[float] = field(default_factory=lambda: list(IMAGENET_STD))
    mpp: float = 0.5

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        for name in ("image_px", "patch_px", "width", "depth", "heads", "mlp_ratio", "eps", "mpp"):
            self._check(name, 0 < getattr(self, name) < math.inf, "a number above 0")
        self._check("image_px", self.image_px % self.patch_px == 0, f"a multiple of patch_px, {self.patch_px}")
        self._check("heads", self.width % self.heads == 0, f"a divisor of the width, {self.width}")
        self._check("projection", self.projection >= 0, "a width, or 0 for none")
        self._check("mean", len(self.mean) == 3 and all(map(math.isfinite, self.mean)), "three numbers")
        self._check("std", len(self.std) == 3 and all(0 < s < math.inf for s in self.std), "three numbers above 0")

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            raise ConfigError(f"{name} is {getattr(self, name)}, expected {expected}", where="config of 'vit'")
