"""CDCIN: the cascaded data consistent imputation network (specification, section 2.4). Tensors in, tensors out."""

from __future__ import annotations

import torch
from stzoo import ConfigError
from stzoo.plugins.s2s_st.cdcin.attention_block import HEADS, WINDOW, HybridAttentionBlock
from stzoo.plugins.s2s_st.config import CDCINNetworkConfig
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def impose_consistency(z: Tensor, x0: Tensor, mask: Tensor, weight: float | None = None) -> Tensor:
    """Replace an estimate by the known values where there are any: data consistency.

    Parameters
    ----------
    z, x0
        The estimate, and the input that holds the known values, (b, 1, H, W).
    mask
        bool (b, 1, H, W), where ``x0`` is known.
    weight
        v of the noisy form, in which a known place becomes ``(z + v x0) / (1 + v)``; None for ``x0`` itself.

    Returns
    -------
    (b, 1, H, W); without a weight bit-equal to ``x0`` where known, and always to ``z`` elsewhere.
    """
    return torch.where(mask, x0 if weight is None else (z + weight * x0) / (1 + weight), z)


class ResidualDenseBlock(nn.Module):
    """Densely connected convolutions, fusion, then two attention blocks (RDBH); 134,528 parameters at 32 and 4.

    Parameters
    ----------
    channels, layers
        G0 = G, and the number of dense layers C.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels * (i + 1), channels, 3, padding=1), nn.ReLU()) for i in range(layers)
        )
        self.fuse = nn.Conv2d(channels * (layers + 1), channels, 1)
        self.attention = nn.Sequential(HybridAttentionBlock(channels, 0), HybridAttentionBlock(channels, WINDOW // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Transform features (b, c, H, W)."""
        features = [x]
        for layer in self.dense:
            features.append(layer(torch.cat(features, dim=1)))
        fused: Tensor = self.attention(self.fuse(torch.cat(features, dim=1)))
        return fused + x


class ImputationBlock(nn.Module):
    """f: a residual dense network without upsampler; 1,103,553 parameters by default and one input channel.

    Parameters
    ----------
    config
        Its shape.
    """

    def __init__(self, config: CDCINNetworkConfig) -> None:
        super().__init__()
        c = config.channels
        self.shallow1 = nn.Conv2d(2 if config.mask_channel else 1, c, 3, padding=1)
        self.shallow2 = nn.Conv2d(c, c, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualDenseBlock(c, config.layers) for _ in range(config.blocks))
        self.fuse = nn.Sequential(nn.Conv2d(c * config.blocks, c, 1), nn.Conv2d(c, c, 3, padding=1))
        self.last = nn.Conv2d(c, 1, 3, padding=1)
        self.frugal = False

    def forward(self, z: Tensor) -> Tensor:
        """Map (b, 1 or 2, H, W) to a correction (b, 1, H, W)."""
        first = self.shallow1(z)
        u, outputs = self.shallow2(first), []
        for block in self.blocks:
            u = _recompute(block, u) if self.frugal and torch.is_grad_enabled() else block(u)
            outputs.append(u)
        out: Tensor = self.last(self.fuse(torch.cat(outputs, dim=1)) + first)
        return out


class CDCIN(nn.Module):
    """N imputation blocks, each followed by data consistency; 3,310,659 parameters by default.

    Parameters
    ----------
    config
        Its shape and switches.

    Raises
    ------
    ConfigError
        A shape that can not be built.
    """

    def __init__(self, config: CDCINNetworkConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.cascade = nn.ModuleList(ImputationBlock(config) for _ in range(config.cascades))

    def forward(self, x0: Tensor, mask: Tensor) -> list[Tensor]:
        """Return r_1 .. r_N, the estimates of all blocks, before data consistency (for deep supervision).

        Parameters
        ----------
        x0
            float (b, 1, H, W), scaled input, filled; any H and W.
        mask
            bool (b, 1, H, W), where ``x0`` is a known value.

        Returns
        -------
        N tensors (b, 1, H, W).
        """
        estimates: list[Tensor] = []
        z = x0
        for block in self.cascade:
            if estimates:
                z = self.impose_consistency(estimates[-1], x0, mask)
            seen = torch.cat([z, mask.to(z.dtype)], dim=1) if self.config.mask_channel else z
            estimates.append(z + block(seen))
        return estimates

    def impose_consistency(self, estimate: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        """Return z_k of an estimate r_k: data consistency, unless it is switched off."""
        if not self.config.consistency:
            return estimate
        return impose_consistency(estimate, x0, mask, self.config.noise_weight)

    def set_frugal(self, frugal: bool) -> None:
        """Switch activation checkpointing of the dense blocks on or off."""
        for block in self.cascade:
            block.frugal = frugal  # type: ignore[assignment]

    def predict(self, x0: Tensor, mask: Tensor) -> Tensor:
        """Return r_N (b, 1, H, W), with data consistency where ``final_dc`` is on (specification A3)."""
        last = self(x0, mask)[-1]
        return self.impose_consistency(last, x0, mask) if self.config.final_dc else last


def _recompute(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block under activation checkpointing; it draws no random numbers."""
    out: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
    return out


def _check(config: CDCINNetworkConfig) -> None:
    for name in ("cascades", "channels", "blocks", "layers"):
        if getattr(config, name) < 1:
            raise ConfigError(f"network.{name} is {getattr(config, name)}", todo="give 1 or more")
    if config.channels % HEADS:
        raise ConfigError(f"network.channels is {config.channels}", todo=f"give a multiple of {HEADS}")
    if config.noise_weight is not None and not config.noise_weight >= 0:
        raise ConfigError(f"network.noise_weight is {config.noise_weight}", todo="give 0 or more, or null")
