"""The refiner (ours): a small network that corrects a kriged map, with a prior learned from photographs.

CDCIN starts from nearest-neighbour filling and takes measured values as exact. Counts are noisy, so here a noise-aware
Gaussian process gives the input map, and further channels say how reliable it and the measured values are; the network
adds a residual, as a cascade of CDCIN does. It takes one map at a time, so one network serves all genes, sections and
grid sizes.
"""

from __future__ import annotations

import torch
from stzoo.plugins.s2s_st.config import RefinerConfig
from torch import Tensor, nn

CHANNELS = ("start", "trust", "given", "known", "reliability")
"""What the network reads of a map, all (h, w): the kriged map in standard deviations of the measured values, the share
of a value's variance that it explains there, measured values (0 elsewhere), where they are, and the share of signal in
the variance of a measured value."""


class Refiner(nn.Module):
    """Residual dilated convolutions, the last layer initialised to zero: untrained, it changes nothing.

    Parameters
    ----------
    config
        Width, and the dilation of each layer.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        width = config.channels
        self.first = nn.Conv2d(len(CHANNELS), width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in config.dilations)
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(torch.as_tensor(self.last.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return the correction of each map, float32 (b, h, w), for inputs (b, 5, h, w) as of :data:`CHANNELS`.

        It is scaled down where kriging explains little (low trust): there the mean is the best guess.
        """
        features = torch.relu(self.first(x))
        for layer in self.layers:
            features = features + torch.relu(layer(features))
        correction: Tensor = self.last(features)[:, 0] * x[:, 1].clamp(min=0).sqrt()
        return correction

    def average_mirrored(self, x: Tensor) -> Tensor:
        """Return the correction averaged over the four reflections of the inputs."""
        total: Tensor = self(x)
        for dims in ([2], [3], [2, 3]):
            total = total + torch.flip(self(torch.flip(x, dims)), [d - 1 for d in dims])
        mean: Tensor = total / 4
        return mean
