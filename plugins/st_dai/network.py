"""The trained part of the backbone, and the layers that adapt it to a section (specification, section 2.5)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from stzoo.plugins.st_dai.config import BackboneConfig, PDLConfig, TunedPart
from torch import Tensor, nn


class Layer(nn.Module):
    """A residual layer: ``z + MLP(LayerNorm(z))``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Take hidden units (b, c) one layer further."""
        further: Tensor = z + self.mlp(z)
        return further


class PDL(nn.Module):
    """A parameter-efficient domain-alignment layer, ``z * (1 + gamma) + beta + U GELU(V z)`` (section 2.5).

    Initially the identity: gamma, beta and U start at 0.

    Parameters
    ----------
    width
        Hidden units C.
    rank
        q; 0 for scale and shift alone.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.down = nn.Linear(width, rank, bias=False) if rank else None
        self.up = nn.Linear(rank, width, bias=False) if rank else None
        if self.down is not None and self.up is not None:
            nn.init.kaiming_uniform_(self.down.weight)
            nn.init.zeros_(self.up.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Shift hidden units (b, c) to the section's domain."""
        moved: Tensor = z * (1 + self.gamma) + self.beta
        if self.down is not None and self.up is not None:
            moved = moved + self.up(nn.functional.gelu(self.down(z)))
        return moved


class STDAINetwork(nn.Module):
    """Embeddings to expression: a linear layer, residual layers, and a linear head over principal components.

    Parameters
    ----------
    inputs
        Width of the embedding.
    loadings
        float32 (k, g), of the components in log-normalised units, scaled by their standard deviations.
    config
        Shape.
    """

    loadings: Tensor

    def __init__(self, inputs: int, loadings: Tensor, config: BackboneConfig) -> None:
        super().__init__()
        self.register_buffer("loadings", loadings)
        self.enter = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(inputs, config.width))
        self.layers = nn.ModuleList(Layer(config.width, config.dropout) for _ in range(config.depth))
        self.pdls = nn.ModuleList(nn.Identity() for _ in range(config.depth))
        last = nn.Linear(config.width, len(loadings))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.width = config.width
        self.head = nn.Sequential(nn.LayerNorm(config.width), last)

    def forward(self, x: Tensor) -> Tensor:
        """Predict centred expression (b, g) from embeddings (b, d)."""
        return self.from_layer(self.until_layer(x, 1), 1)

    def until_layer(self, x: Tensor, count: int) -> Tensor:
        """Return the hidden units (b, c) that the first ``count`` layers make, before the last one's domain layer."""
        z: Tensor = self.layers[0](self.enter(x))
        for pdl, layer in zip(self.pdls[: count - 1], self.layers[1:count], strict=True):
            z = layer(pdl(z))
        return z

    def from_layer(self, z: Tensor, count: int) -> Tensor:
        """Predict expression, (b, g), from what :meth:`until_layer` returned for so many layers."""
        for pdl, layer in zip(self.pdls[count - 1 : -1], self.layers[count:], strict=True):
            z = layer(pdl(z))
        predicted: Tensor = self.head(self.pdls[-1](z)) @ self.loadings
        return predicted


def adapt(network: STDAINetwork, tune: TunedPart, config: PDLConfig, count: int) -> list[STDAINetwork]:
    """Return a network for each of several sections, with tunable parameters of its own.

    Frozen parameters are shared with ``network``, not copied.
    """
    found = []
    for _ in range(count):
        if tune is TunedPart.all:
            found.append(copy.deepcopy(network).requires_grad_(True))
            continue
        own = copy.copy(network)
        own._modules = dict(network._modules)
        if tune in (TunedPart.pdl, TunedPart.pdl_head):
            plain = len(network.layers) - config.layers
            banks = (PDL(network.width, config.rank) for _ in range(config.layers))
            own.pdls = nn.ModuleList([*network.pdls[:plain], *banks])
        if tune in (TunedPart.head, TunedPart.pdl_head):
            own.head = copy.deepcopy(network.head).requires_grad_(True)
        found.append(own)
    if config.shared and tune in (TunedPart.pdl, TunedPart.pdl_head):
        for own in found[1:]:
            for pdl, first in zip(own.pdls[-config.layers :], found[0].pdls[-config.layers :], strict=True):
                assert isinstance(pdl, PDL)  # `tune` has put them there
                assert isinstance(first, PDL)
                pdl.down, pdl.up = first.down, first.up
    return found


def count_untouched_layers(tune: TunedPart, config: PDLConfig, depth: int) -> int:
    """Return how many layers refinement leaves unchanged, from the first on; 0 where everything is tuned."""
    if tune is TunedPart.all:
        return 0
    return depth - config.layers + 1 if tune in (TunedPart.pdl, TunedPart.pdl_head) else depth


def iterate_tuned_parameters(networks: list[STDAINetwork]) -> Iterator[nn.Parameter]:
    """Yield each tunable parameter once."""
    seen: set[int] = set()
    for network in networks:
        for parameter in network.parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter
