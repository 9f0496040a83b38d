"""Training tasks: the network on measured spots, then its domain layers on each adjacent section (section 2.7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from stzoo import Progress
from stzoo.core.arrays import Doubles, Indices
from stzoo.plugins.st_dai.config import BackboneConfig, RefineConfig
from stzoo.plugins.st_dai.network import STDAINetwork, iterate_tuned_parameters
from torch import Tensor, nn


@dataclass(frozen=True)
class Labels:
    """Inputs, targets and weights of a loss.

    Parameters
    ----------
    x
        float32 (n, d), inputs of all spots.
    target
        float32 (n, g), target expression; 0 where unknown.
    weight
        float32 (n, 1) or (n, g): the inverse of a measured spot's noise, the confidence of a pseudo-label.
    """

    x: Tensor
    target: Tensor
    weight: Tensor

    def mean_error(self, predicted: Tensor, drawn: Tensor) -> Tensor:
        """Return the weighted mean squared error of predictions, (b, g), for the spots ``drawn``; 0 for none."""
        if not len(drawn):
            return predicted.new_zeros(())
        weight = self.weight[drawn].expand_as(predicted)
        return (weight * (predicted - self.target[drawn]) ** 2).sum() / (weight.sum() + 1e-12)


def draw_spots(spots: Indices, count: int, generator: torch.Generator) -> Tensor:
    """Draw so many spots at random, with replacement; none from none."""
    if not len(spots):
        return torch.zeros(0, dtype=torch.int64)
    return torch.from_numpy(spots)[torch.randint(len(spots), (count,), generator=generator)]


class _CosineTask:
    """A task whose learning rate decays to 0 by a cosine, and that reports progress."""

    def __init__(self, steps: int, progress: Progress | None) -> None:
        self._steps, self._progress = steps, progress

    def learning_rate(self, step: int) -> float:
        """Return the factor on the learning rate."""
        return 0.5 * (1 + math.cos(math.pi * step / max(self._steps, 1)))

    def after_step(self, step: int) -> None:
        """Report progress."""
        if self._progress:
            self._progress(step + 1, self._steps)


class SourceTask(_CosineTask):
    """Train the network on measured spots (a :class:`stzoo.core.training.TrainingTask`)."""

    def __init__(
        self, network: STDAINetwork, labels: Labels, spots: Indices, config: BackboneConfig, progress: Progress | None
    ) -> None:
        super().__init__(config.steps, progress)
        self._network, self._labels, self._spots, self._config = network, labels, spots, config

    def module(self) -> nn.Module:
        """Return the network."""
        return self._network

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(
            self._network.parameters(),
            lr=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            fused=True,
        )

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the error over some of the spots."""
        some = draw_spots(self._spots, self._config.batch, generator)
        return {"loss": self._labels.mean_error(self._network(self._labels.x[some]), some)}


class GeneratorTask(_CosineTask):
    """Fit the confidence generator by cross-entropy, on all spots in every step, at a constant rate."""

    def __init__(self, generator: nn.Module, inputs: Tensor, target: Tensor, rate: float, decay: float) -> None:
        super().__init__(0, None)
        self._generator, self._inputs, self._target, self._rate, self._decay = generator, inputs, target, rate, decay

    def module(self) -> nn.Module:
        """Return the generator."""
        return self._generator

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self._generator.parameters(), lr=self._rate, weight_decay=self._decay)

    def learning_rate(self, step: int) -> float:
        """Return 1: there is no schedule."""
        return 1.0

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"loss": nn.functional.binary_cross_entropy_with_logits(self._generator(self._inputs), self._target)}


PARTS = ("measured", "pseudo", "replay")
"""Parts of the loss of refinement."""


@dataclass(frozen=True)
class Domain:
    """One adjacent section in refinement.

    Parameters
    ----------
    measured, pseudo, central
        Its measured spots, those with pseudo-labels, and the central section's measured spots.
    """

    measured: Indices
    pseudo: Indices
    central: Indices

    @property
    def parts(self) -> tuple[Indices, Indices, Indices]:
        """The spots of each of :data:`PARTS`."""
        return self.measured, self.pseudo, self.central


class RefineTask(_CosineTask):
    """Tune each adjacent section's own parameters, all sections in one step (FMDR, section 2.7, our reading).

    ``loss = sum over sections of measured * L_meas + pseudo * L_pl + replay * L_src + penalty * |phi|^2``; without
    shared parameters the sections are independent. Hidden units before the first tuned layer are computed once, without
    dropout, and reused in every step.

    Parameters
    ----------
    networks
        One for each section; frozen parameters are shared.
    kept
        Number of layers before the first tuned one (:func:`stzoo.plugins.st_dai.network.count_untouched_layers`).
    """

    def __init__(
        self,
        networks: list[STDAINetwork],
        domains: list[Domain],
        measured: Labels,
        pseudo: Labels,
        config: RefineConfig,
        progress: Progress | None,
        *,
        kept: int,
    ) -> None:
        super().__init__(config.steps, progress)
        self._kept, self._inputs = kept, measured.x
        if kept:
            with torch.no_grad():
                self._inputs = networks[0].eval().until_layer(measured.x, kept)
        self._networks, self._domains, self._config = networks, domains, config
        self._labels = (measured, pseudo, measured)
        self._width = max(measured.weight.shape[1], pseudo.weight.shape[1])
        self._share = measured.x.new_tensor([config.measured, config.pseudo, config.replay])
        asked = (config.batch_measured, config.batch_pseudo, config.batch_replay)
        self._counts = [c if share else 0 for c, share in zip(asked, self._share.tolist(), strict=True)]
        self._group = self._number_groups().to(measured.x.device)
        self._phi = list(iterate_tuned_parameters(networks))
        self._start = [p.detach().clone() for p in self._phi]

    def _number_groups(self) -> Tensor:
        """Return the part and section of every spot of a step, ``section * 3 + part``, int64."""
        drawn_of = [[c if len(s) else 0 for s, c in zip(d.parts, self._counts, strict=True)] for d in self._domains]
        counts = torch.tensor(drawn_of).ravel()
        return torch.repeat_interleave(torch.arange(len(counts)), counts)

    def module(self) -> nn.Module:
        """Return the tuned parameters only."""
        held = nn.ParameterList(self._phi)
        return nn.ModuleDict({"tuned": held})

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW without decay: the penalty is a loss."""
        return torch.optim.AdamW(self._phi, lr=self._config.learning_rate, weight_decay=0.0, fused=True)

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses, summed over sections; all sections are evaluated in one batch."""
        said, target, weight = list[Tensor](), list[Tensor](), list[Tensor]()
        for network, domain in zip(self._networks, self._domains, strict=True):
            some = [draw_spots(spots, c, generator) for spots, c in zip(domain.parts, self._counts, strict=True)]
            given = self._inputs[torch.cat(some)]
            said.append(network.from_layer(given, self._kept) if self._kept else network(given))
            for labels, spots in zip(self._labels, some, strict=True):
                target.append(labels.target[spots])
                weight.append(labels.weight[spots].expand(-1, self._width))
        error = self._mean_errors(torch.cat(said), torch.cat(target), torch.cat(weight))
        moved = torch.stack([((p - s) ** 2).sum() for p, s in zip(self._phi, self._start, strict=True)]).sum()
        loss = (error * self._share).sum() + self._config.penalty * moved
        return {"loss": loss, **dict(zip(PARTS, error.detach(), strict=True))}

    def _mean_errors(self, said: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean squared error of each part, (3,), sums over sections."""
        squared = (weight * (said - target) ** 2).sum(dim=1)
        total = weight.sum(dim=1) * (said.shape[1] / self._width)
        whole = total.new_zeros(len(PARTS) * len(self._networks)).index_add(0, self._group, total)[self._group]
        return squared.new_zeros(len(PARTS)).index_add(0, self._group % len(PARTS), squared / (whole + 1e-12))


def weigh_spots(noise: Doubles, spots: Indices, count: int) -> Tensor:
    """Return the inverse of the measured spots' noise, mean 1, and 0 elsewhere, float32 (count, 1)."""
    weight = np.zeros((count, 1), dtype=np.float32)
    weight[spots, 0] = (1 / noise) / (1 / noise).mean()
    return torch.from_numpy(weight)
