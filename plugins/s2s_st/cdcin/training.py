"""Training of one CDCIN on one section, with natural images beside it (specification, sections 2.2 to 2.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from stzoo import ConfigError, Progress
from stzoo.plugins.s2s_st.cdcin.canvas import Canvas
from stzoo.plugins.s2s_st.cdcin.network import CDCIN
from stzoo.plugins.s2s_st.cdcin.sampling import Known, Sampling
from stzoo.plugins.s2s_st.cdcin.windows import augment, cut_windows, find_training_corners
from stzoo.plugins.s2s_st.config import CDCINTrainConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from torch import Tensor, nn


def masked_l1(estimate: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Return the mean absolute difference over the scored places of a batch; NaN where there is none.

    ``estimate`` and ``target`` are float (b, 1, n, n), ``scored`` is bool of that shape.
    """
    return ((estimate - target).abs() * scored).sum() / scored.sum()


def deep_l1(estimates: Sequence[Tensor], target: Tensor, scored: Tensor) -> Tensor:
    """Return the masked L1 of r_1 .. r_N, weighted by k / N (deep supervision)."""
    n = len(estimates)
    return torch.stack([(k / n) * masked_l1(r, target, scored) for k, r in enumerate(estimates, start=1)]).sum()


def gradient_l1(estimate: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """Return the L1 distance of Sobel gradients (/ 8), where all nine places are scored (our reading); 0 if nowhere."""
    whole = F.avg_pool2d(scored.float(), 3, 1) > 1 - 1e-3  # (b, 1, n-2, n-2)
    difference = _sobel(estimate - target).abs().mean(dim=1, keepdim=True)
    return (difference * whole).sum() / whole.sum().clamp(min=1)


def total_loss(parts: Mapping[str, Tensor], config: CDCINTrainConfig) -> Tensor:
    """Return (λ_g / κ) (s2s + s2d) + g1 + g2 + λ_∇ gradient, of those that are given.

    Parameters
    ----------
    parts
        ``s2s`` and ``s2d`` in log-normalised units, ``g1`` and ``g2`` in grey levels, ``gradient`` summed over
        s2s, g1 and g2 with the weights that these have (our reading).
    """
    genes = config.gene_weight / config.gene_scale
    weights = {"s2s": genes, "s2d": genes, "g1": 1.0, "g2": 1.0, "gradient": config.gradient}
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def _sobel(x: Tensor) -> Tensor:
    """Return horizontal and vertical derivatives of (b, 1, n, n): (b, 2, n-2, n-2)."""
    across = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    return F.conv2d(x, torch.stack([across, across.T])[:, None])


class CDCINTask:
    """One step: windows of the section and as many natural images (a :class:`stzoo.core.training.TrainingTask`).

    A window is drawn uniformly from all that qualify, and a gene uniformly for each window (with one map: the paper's
    model for each gene; with several: shared by them, A5, ours). The authors' code goes through all windows once an
    epoch instead (A6).

    Parameters
    ----------
    network
        The network to train, on its device.
    canvas
        The measured values; hidden ones are not in it.
    sampling
        The relation between levels; it has to fit the canvas.
    config
        Weights, switches, sizes.
    images
        Natural images, or None for none.
    progress
        Called with (steps done, steps).

    Raises
    ------
    ConfigError
        Options that contradict each other.
    DataError
        No window to train on, or images that are too small.
    """

    def __init__(
        self,
        network: CDCIN,
        canvas: Canvas,
        sampling: Sampling,
        config: CDCINTrainConfig,
        images: NaturalImages | None = None,
        progress: Progress | None = None,
    ) -> None:
        _check(config, images)
        self.network, self.canvas, self.sampling, self.config = network, canvas, sampling, config
        self.images = images if config.g1 or config.g2 else None
        self.progress = progress
        self.corners = find_training_corners(canvas)
        if self.images is not None:
            self.images.require(canvas.side)
        network.set_frugal(config.frugal)

    def module(self) -> nn.Module:
        """Return the network."""
        return self.network

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Adam at a constant rate."""
        config = self.config
        return torch.optim.Adam(self.network.parameters(), config.learning_rate, betas=(config.beta1, config.beta2))

    def learning_rate(self, step: int) -> float:
        """Return 1: there is no schedule."""
        return 1.0

    def after_step(self, step: int) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(step + 1, self.config.iterations)

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses that are switched on, and their weighted sum."""
        measured = self._draw_windows(generator)
        parts = self._gene_losses(measured, generator)
        if self.images is not None:
            parts |= self._image_losses(self.images, measured[1], generator)
        gradients = [parts.pop(name) for name in list(parts) if name.startswith("gradient")]
        if gradients:
            parts["gradient"] = torch.stack(gradients).sum()
        return {"loss": total_loss(parts, self.config), **parts}

    def _draw_windows(self, generator: torch.Generator) -> Known:
        """Draw level m of a batch: measured places only, and only then rotated and reflected (D1)."""
        batch = self.config.batch
        genes = torch.randint(len(self.canvas.values), (batch,), generator=generator)
        chosen = torch.randint(len(self.corners), (batch,), generator=generator)
        measured = cut_windows(self.canvas, genes, self.corners[chosen])
        if self.config.augment:
            measured = augment(*measured, generator)
        return measured[0] / self.config.gene_scale, measured[1]

    def _gene_losses(self, measured: Known, generator: torch.Generator) -> dict[str, Tensor]:
        """Return s2s and s2d in log-normalised units, of level m in network units."""
        sampling, scale = self.sampling, self.config.gene_scale
        parts: dict[str, Tensor] = {}
        target, known = self._to_device(measured)
        if self.config.s2s:
            fewer = sampling.thin(measured, generator)
            estimates = self._estimate(self._drop(fewer, generator))
            scored = sampling.select_scored(measured[1], fewer[1])
            parts["s2s"] = scale * deep_l1(estimates, target, scored.to(target.device))
            if self.config.gradient > 0:
                weight = self.config.gene_weight
                parts["gradient s2s"] = weight * gradient_l1(estimates[-1], target, known)
        if self.config.s2d:
            estimates = [sampling.lower(r) for r in self._estimate(self._drop(measured, generator))]
            parts["s2d"] = scale * deep_l1(estimates, target, known)
        return parts

    def _image_losses(self, images: NaturalImages, known: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return g1 and g2 in grey levels."""
        full = images.draw_crops(self.config.batch, self.canvas.side, generator)
        measured = self.sampling.sample_image(full, known)
        parts: dict[str, Tensor] = {}
        if self.config.g1:
            fewer = self.sampling.thin(measured, generator)
            scored = self.sampling.select_scored(measured[1], fewer[1])
            parts |= self._image_loss("g1", fewer, measured[0], scored)
        if self.config.g2:
            parts |= self._image_loss("g2", measured, full, torch.ones_like(full, dtype=torch.bool))
        return parts

    def _image_loss(self, name: str, shown: Known, target: Tensor, scored: Tensor) -> dict[str, Tensor]:
        estimates = self._estimate(shown)
        target, scored = self._to_device((target, scored))
        parts = {name: deep_l1(estimates, target, scored)}
        if self.config.gradient > 0:
            parts[f"gradient {name}"] = gradient_l1(estimates[-1], target, scored)
        return parts

    def _drop(self, level: Known, generator: torch.Generator) -> Known:
        """Drop known input places at random, in values and mask."""
        if self.config.drop_rate == 0:
            return level
        kept = level[1] & (torch.rand(level[1].shape, generator=generator) >= self.config.drop_rate)
        return level[0] * kept, kept

    def _estimate(self, level: Known) -> list[Tensor]:
        """Return r_1 .. r_N of the next finer level; data consistency is on in every pass (D2)."""
        estimates: list[Tensor] = self.network(*self._to_device(self.sampling.lift(level)))
        return estimates

    def _to_device(self, level: Known) -> Known:
        device = next(self.network.parameters()).device
        return level[0].to(device), level[1].to(device)


def _check(config: CDCINTrainConfig, images: NaturalImages | None) -> None:
    if not (config.s2s or config.s2d or (images is not None and (config.g1 or config.g2))):
        todo = "switch on train.s2s or train.s2d, or give natural images for train.g1 and train.g2"
        raise ConfigError("every loss is off", todo=todo)
    if config.batch < 1 or config.iterations < 1:
        name = "batch" if config.batch < 1 else "iterations"
        raise ConfigError(f"train.{name} is {getattr(config, name)}", todo="give 1 or more")
    if not (config.gene_scale > 0 and config.gene_weight >= 0 and config.gradient >= 0):
        raise ConfigError(
            f"train.gene_scale is {config.gene_scale}, gene_weight {config.gene_weight}, gradient {config.gradient}",
            todo="give a scale above 0 and weights of 0 or more",
        )
    if not 0 <= config.drop_rate < 1:
        raise ConfigError(f"train.drop_rate is {config.drop_rate}", todo="give a share in [0, 1)")
