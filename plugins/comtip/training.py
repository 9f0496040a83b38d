"""Training of CoMTIP: what one step computes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from stzoo.core.errors import ConfigError
from stzoo.plugins.comtip.adversary import Discriminator, pair_loss, shuffled_values
from stzoo.plugins.comtip.config import CoMTIPConfig, Paat
from stzoo.plugins.comtip.data import TrainingData
from stzoo.plugins.comtip.frugal import frugal
from stzoo.plugins.comtip.genes import GeneInputs
from stzoo.plugins.comtip.inputs import turned
from stzoo.plugins.comtip.neighbours import means
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.objective import (
    correlation_loss,
    gathered,
    info_nce,
    masked_feature_loss,
    masked_spot_loss,
    soft_targets,
    value_ranking,
)
from stzoo.plugins.comtip.vision import SpotGenerator
from torch import Tensor, nn

RANKED = 1024
"""Genes whose values are scored at a time."""


class TrainingTask:
    """One step of CoMTIP's objective (a :class:`stzoo.core.train.Task`).

    Parameters
    ----------
    network, data, genes
        What is trained, on what, and what the text tower reads of every gene of the vocabulary.
    started
        Names of the parameters that came from a checkpoint: they learn at ``train.tower_rate``.
    """

    def __init__(
        self,
        network: Network,
        data: TrainingData,
        genes: GeneInputs,
        config: CoMTIPConfig,
        started: frozenset[str] = frozenset(),
    ) -> None:
        check(config)
        self.config, self.data, self.genes, self.started = config, data, genes, started
        average = copy.deepcopy(network).requires_grad_(False)
        self.both = nn.ModuleDict({"network": network, "average": average})
        if config.objective.paat in (Paat.paper, Paat.critic, Paat.pairs):
            self.both["judge"] = Discriminator(config.embedding_dim)
        if config.objective.mfm_spots > 0:
            self.both["spots"] = SpotGenerator(config.embedding_dim)
        self.network, self.average = network, average
        self.grid = torch.linspace(0, config.text.value_max, config.objective.grid)

    def module(self) -> nn.Module:
        """Return the network, its moving average, and what only training uses."""
        return self.both

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW; weight decay on matrices only; the gene table and what a checkpoint gave have own rates."""
        train = self.config.train
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in self.both.named_parameters():
            if not parameter.requires_grad:
                continue
            rate = train.tower_rate if name.removeprefix("network.") in self.started else train.learning_rate
            if name == "network.text.residual.weight":
                rate *= train.table_speed
            decay = train.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
        return torch.optim.AdamW(
            [{"params": ps, "lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]
        )

    def learning_rate(self, step: int) -> float:
        """Return linear warm-up, then cosine decay."""
        train = self.config.train
        return min(1.0, (step + 1) / train.warmup) * 0.5 * (1 + math.cos(math.pi * step / train.steps))

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted sum and its parts."""
        weights, network = self.config.objective, self.network
        chosen = self._chosen(generator)
        inputs, values, um = self._augmented(chosen, generator), self.data.values[chosen], self.data.um[chosen]
        inputs, values = self._mixed(inputs, values, generator)
        alone, features = network.image(inputs)
        z = network.image.placed(alone, means(um, alone, self.config.vision.context_um))
        parts: dict[str, Tensor] = {}
        if weights.contrast > 0 or weights.paat is not Paat.none:
            parts |= self._text_losses(z, values, chosen, generator)
        if weights.mfm > 0:
            teacher, kind = features, weights.mfm_loss
            loss = masked_feature_loss(network.image, inputs, teacher, weights.mask, generator, kind)
            parts["mfm"] = weights.mfm * loss
        if weights.mfm_spots > 0:
            spots: SpotGenerator = self.both["spots"]  # type: ignore[assignment]
            parts["mfm_spots"] = weights.mfm_spots * masked_spot_loss(spots, alone, um, weights.mask, generator)
        if weights.ranking > 0 or weights.correlation > 0:
            parts |= self._map_losses(z, values, generator)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def after_step(self, step: int) -> None:
        """Move the average towards the network; slowly at the end, fast at the start."""
        keep = min(self.config.train.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)

    def _text_losses(self, z: Tensor, values: Tensor, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return InfoNCE and L_pair on a random subset of genes, so that few genes are on distribution as well."""
        weights, text = self.config.objective, self.network.text
        most = min(self.config.train.genes, values.shape[1])
        size = int(torch.randint(min(self.config.train.fewest_genes, most), most + 1, (1,), generator=generator))
        genes = torch.randperm(values.shape[1], generator=generator)[:size]
        values, code = values[:, genes], self._code(genes, generator)
        profiles = text.profiles(code, values)
        shuffled, parts = None, {}
        if weights.paat is not Paat.none:
            wrong = shuffled_values(values, weights.shuffled, generator)
            single = weights.paat is Paat.pairs
            shuffled = text.alone(code, wrong) if single else text.profiles(code, wrong)
            if weights.paat is not Paat.negative:
                right = text.alone(code, values) if single else profiles
                judge: Discriminator = self.both["judge"]  # type: ignore[assignment]
                parts["pair"] = weights.pair * pair_loss(weights.paat, judge, right, shuffled, weights.reversal)
        if weights.contrast > 0:
            parts["contrast"] = weights.contrast * self._contrast(z, profiles, shuffled, chosen)
        return parts

    def _map_losses(self, z: Tensor, values: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of zero-shot maps; they are means over genes, so a few are done at a time."""
        weights = self.config.objective

        def losses(z: Tensor, code: Any, values: Tensor) -> Tensor:
            scores = self.network.value_scores(z, code, self.grid)
            return torch.stack([value_ranking(scores, values, self.grid), correlation_loss(scores, values, self.grid)])

        genes = torch.randperm(values.shape[1], generator=generator)[: self.config.train.ranked_genes]
        run = frugal(losses, when=len(genes) > RANKED)
        found = [
            len(some) * run(z, self._code(some, generator), values[:, some]) for some in torch.split(genes, RANKED)
        ]
        ranking, correlation = torch.stack(found).sum(0) / len(genes)
        both = {"ranking": weights.ranking * ranking, "correlation": weights.correlation * correlation}
        return {name: loss for name, loss in both.items() if getattr(weights, name) > 0}

    def _code(self, index: Tensor, generator: torch.Generator) -> Any:
        """Encode genes of the vocabulary, some of them as if they had never been seen."""
        genes, share = self.genes[index], self.config.train.forget
        if share > 0:
            draw = torch.rand(len(index), generator=generator)
            genes = replace(
                genes,
                index=torch.where(draw < share, -1, genes.index),
                described=genes.described * ((draw < share) | (draw > 2 * share))[:, None],
            )
        return self.network.text.encode_genes(genes)

    def _contrast(self, z: Tensor, profiles: Tensor, shuffled: Tensor | None, chosen: Tensor) -> Tensor:
        weights = self.config.objective
        negatives = gathered(shuffled) if weights.paat is Paat.negative and shuffled is not None else None
        temperature = weights.soft_targets
        targets = soft_targets(gathered(self.data.profiles[chosen]), temperature) if temperature > 0 else None
        return info_nce(gathered(z), gathered(profiles), self.network.scale(), targets, negatives)

    def _chosen(self, generator: torch.Generator) -> Tensor:
        """Draw the spots of a step: from all sections, or a random spot of one and those nearest to it."""
        batch, n = self.config.train.batch, len(self.data.values)
        if not self.config.train.neighbours:
            return torch.randperm(n, generator=generator)[:batch]
        centre = int(torch.randint(n, (1,), generator=generator))
        same = torch.nonzero(self.data.section == self.data.section[centre])[:, 0]
        distance = (self.data.um[same] - self.data.um[centre]).norm(dim=1)
        return same[distance.argsort(stable=True)[:batch]]

    def _mixed(self, inputs: Tensor, values: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix the spots of a batch with one another, tiles and profiles alike."""
        alpha = self.config.train.mixup
        if alpha <= 0:
            return inputs, values
        other = torch.randperm(len(values), generator=generator)
        draws = torch._standard_gamma(torch.full((2, len(values)), alpha), generator)
        share = draws[0] / draws.sum(0)
        share = torch.maximum(share, 1 - share)  # each spot stays mostly itself, where it is

        def mix(x: Tensor) -> Tensor:
            own = share.view(-1, *[1] * (x.ndim - 1))
            return own * x + (1 - own) * x[other]

        return mix(inputs), mix(values)

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


def check(config: CoMTIPConfig) -> None:
    """Refuse options that contradict each other.

    Raises
    ------
    ConfigError
        Which ones, and what to change.
    """
    weights = config.objective
    together = config.vision.context_um or weights.mfm_spots > 0
    if together and not config.train.neighbours:
        raise ConfigError(
            "vision.context_um and objective.mfm_spots need batches of neighbouring spots",
            todo="set train.neighbours=true",
        )
    if not any((weights.contrast, weights.mfm, weights.mfm_spots, weights.ranking, weights.correlation)):
        raise ConfigError("every part of the objective is off", todo="give one of its weights a value above 0")
    if weights.paat is Paat.negative and not weights.contrast:
        raise ConfigError("paat=negative is a part of InfoNCE, which is off", todo="set objective.contrast=1")
