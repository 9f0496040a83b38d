"""Training of CoMTIP: the data in memory, and what one step computes."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.errors import DataError
from stzoo.core.section import Section
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.inputs import raw_inputs, section_moments, standardised, turned
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.objective import info_nce, masked_feature_loss, soft_targets, value_ranking
from torch import Tensor, nn

TARGET = 1e4
"""Expression is log1p of counts per 10,000."""


def training_genes(sections: Sequence[Section], min_detected: float, most: int) -> list[str]:
    """Return the genes that all sections have and that are detected in enough of the measured spots.

    Of those, the ``most`` of highest mean expression, in the order of the first section.

    Raises
    ------
    DataError
        No gene is left.
    """
    shared = set.intersection(*(set(section.genes) for section in sections))
    genes = [gene for gene in sections[0].genes if gene in shared]
    seen, spots = np.zeros(len(genes)), 0
    for section in sections:
        x = section.adata[section.measured, genes].X
        seen += np.asarray((x > 0).sum(axis=0)).ravel()
        spots += int(section.measured.sum())
    kept = [gene for gene, count in zip(genes, seen, strict=True) if count >= min_detected * spots]
    if not kept:
        raise DataError(
            f"no gene is detected in {min_detected:.0%} of the {spots} training spots", todo="lower train.min_detected"
        )
    means = np.concatenate([s.expression(kept, target=TARGET)[s.measured] for s in sections]).mean(axis=0)
    chosen = np.sort(np.argsort(-means, kind="stable")[:most])
    return [kept[i] for i in chosen]


@dataclass
class TrainingData:
    """All measured spots of the training sections.

    Parameters
    ----------
    inputs
        (views, n, ...), inputs of the image tower; each view is shifted at random.
    values
        (n, g), log1p of counts per 10,000.
    profiles
        (n, p), leading principal components of the standardised values, for soft targets.
    """

    inputs: Tensor
    values: Tensor
    profiles: Tensor


def gather(sections: Sequence[Section], genes: Sequence[str], config: CoMTIPConfig, seed: int) -> TrainingData:
    """Read tiles and expression of the measured spots."""
    shift = np.random.default_rng(seed)
    views: list[list[Tensor]] = [[] for _ in range(config.train.views)]
    values = []
    for section in sections:
        usable = section.measured & (np.nan_to_num(section.depth) > 0)
        values.append(torch.from_numpy(section.expression(genes, target=TARGET)[usable]))
        moments = section_moments(section, config.vision, 32)
        reach = config.train.shift_um / float(section.require_slide().mpp or 1.0)
        for number, view in enumerate(views):
            places = section.pixels[usable]
            if number > 0:
                places = places + shift.uniform(-reach, reach, places.shape)
            for start in range(0, len(places), 32):
                raw = raw_inputs(section, places[start : start + 32], config.vision)
                view.append(standardised(raw, moments))
    y = torch.cat(values)
    scaled = (y - y.mean(0)) / (y.std(0) + 1e-3)
    u, s, _ = torch.linalg.svd(scaled, full_matrices=False)
    return TrainingData(torch.stack([torch.cat(view) for view in views]), y, (u * s)[:, :20])


class TrainingTask:
    """One step of CoMTIP's objective (a :class:`stzoo.core.train.Task`).

    Parameters
    ----------
    network, data, pieces
        What is trained, on what, and the symbol pieces of every gene of the vocabulary (g, l).
    """

    def __init__(self, network: Network, data: TrainingData, pieces: Tensor, config: CoMTIPConfig) -> None:
        self.config, self.data, self.pieces = config, data, pieces
        average = copy.deepcopy(network).requires_grad_(False)
        self.both = nn.ModuleDict({"network": network, "average": average})
        self.network, self.average = network, average
        self.grid = torch.linspace(0, config.text.value_max, config.objective.grid)

    def module(self) -> nn.Module:
        """Return the network and its moving average."""
        return self.both

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW; weight decay on matrices only."""
        train = self.config.train
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=train.learning_rate)

    def learning_rate(self, step: int) -> float:
        """Return linear warm-up, then cosine decay."""
        train = self.config.train
        return min(1.0, (step + 1) / train.warmup) * 0.5 * (1 + math.cos(math.pi * step / train.steps))

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted sum and its parts."""
        weights = self.config.objective
        chosen = torch.randperm(self.data.values.shape[0], generator=generator)[: self.config.train.batch]
        inputs, values = self._augmented(chosen, generator), self.data.values[chosen]
        z, features = self.network.image(inputs)
        parts: dict[str, Tensor] = {}
        if weights.contrast > 0:
            parts["contrast"] = weights.contrast * self._contrast(z, values, chosen, generator)
        if weights.mfm > 0:
            image = self.network.image
            parts["mfm"] = weights.mfm * masked_feature_loss(image, inputs, features, weights.mask, generator)
        if weights.ranking > 0:
            genes = torch.randperm(values.shape[1], generator=generator)[: self.config.train.ranked_genes]
            scores = self.network.value_scores(z, self._genes(genes), self.grid)
            parts["ranking"] = weights.ranking * value_ranking(scores, values[:, genes], self.grid)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def after_step(self, step: int) -> None:
        """Move the average towards the network; slowly at the end, fast at the start."""
        keep = min(self.config.train.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)

    def _genes(self, index: Tensor) -> Tensor:
        return self.network.text.gene_vectors(self.pieces[index], index)

    def _contrast(self, z: Tensor, values: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        most = min(self.config.train.genes, values.shape[1])
        size = int(torch.randint(min(16, most), most + 1, (1,), generator=generator))
        genes = torch.randperm(values.shape[1], generator=generator)[:size]
        text = self.network.text(self._genes(genes), values[:, genes])
        temperature = self.config.objective.soft_targets
        targets = soft_targets(self.data.profiles[chosen], temperature) if temperature > 0 else None
        return info_nce(z, text, self.network.scale(), targets)

    def _augmented(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        view = int(torch.randint(len(self.data.inputs), (1,), generator=generator))
        pose = int(torch.randint(8, (1,), generator=generator))
        inputs = turned(self.data.inputs[view, chosen], pose // 2, pose % 2 == 1)
        jitter = self.config.train.jitter
        if inputs.ndim == 4 or jitter == 0:
            return inputs
        b, _, f = inputs.shape
        scale = 1 + 0.5 * jitter * torch.randn(b, 1, f, generator=generator)
        return inputs * scale + jitter * torch.randn(b, 1, f, generator=generator)
