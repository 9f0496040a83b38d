"""CoMTIP's objective on the spots of one step, shared by the ranks of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from stzoo import ConfigError, Ranks
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.comtip.config import CoMTIPConfig, Paat
from stzoo.plugins.comtip.data import Draws, TrainingData
from stzoo.plugins.comtip.image_tower import SpotGenerator
from stzoo.plugins.comtip.losses import (
    Discriminator,
    correlation_loss,
    info_nce,
    masked_feature_loss,
    masked_spot_loss,
    pair_loss,
    shuffle_values,
    soft_targets,
    value_ranking,
)
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.text_tower import GeneInputs, checkpoint_activations
from torch import Tensor, nn


def average_neighbours(um: Tensor, z: Tensor, widths: Sequence[float]) -> list[Tensor]:
    """Return for each width the Gaussian means (n, d) over the neighbours in a batch, differentiable (ours)."""
    if not widths:
        return []
    distance = torch.cdist(um, um)
    found = []
    for width in widths:
        weight = torch.exp(-0.5 * (distance / width) ** 2) * (distance <= 3 * width)
        found.append((weight / weight.sum(1, keepdim=True)) @ z)
    return found


RANKED = 1024
"""Genes whose values are scored at a time."""


@dataclass(frozen=True)
class ImageOutputs:
    """Outputs of the image tower for the spots of a step.

    Parameters
    ----------
    chosen, um, values
        Of the global batch: spot indices int64 (b,), positions (b, 2) in µm, log-normalised values (b, g).
    inputs, features, z
        Of this rank's spots: augmented inputs of the image tower, patch features Z (m, P, width), z_img (m, d).
    around
        z of tiles without context (b or m, d), of the spots that may be each other's context.
    """

    chosen: Tensor
    um: Tensor
    values: Tensor
    inputs: Tensor
    features: Tensor
    z: Tensor
    around: Tensor


class Objective:
    """CoMTIP's objective on a batch of spots.

    Parameters
    ----------
    network, data, genes
        The networks to train, the training data, and the text inputs of its genes.
    ranks
        The processes that share a step. All draw the same global batch; each computes tiles and profiles of its share
        of spots, and zero-shot maps of its share of genes, so that the losses are those of the global batch.
    """

    def __init__(
        self, network: CoMTIPNetwork, data: TrainingData, genes: GeneInputs, config: CoMTIPConfig, ranks: Ranks = ALONE
    ) -> None:
        check_objective(config)
        self.ranks, self.device = ranks, next(network.parameters()).device
        self.network, self.config, self.data = network, config, data
        self.genes = genes.to(str(self.device))
        self.extra = nn.ModuleDict()
        if config.objective.paat in (Paat.paper, Paat.critic, Paat.pairs):
            self.extra["judge"] = Discriminator(config.embedding_dim)
        if config.objective.mfm_spots > 0:
            self.extra["spots"] = SpotGenerator(config.embedding_dim)
        self.extra.to(self.device)
        self.grid = torch.linspace(0, config.text.value_max, config.objective.grid, device=self.device)

    def encode_images(self, chosen: Tensor, generator: torch.Generator) -> ImageOutputs:
        """Run the image tower on the augmented tiles of this rank's share of the batch."""
        mine, count = self.ranks.share(len(chosen)), len(chosen)
        inputs, values, um = self._load_batch(chosen, mine, generator)
        alone, features = self.network.image(inputs)
        around = self.ranks.gather(alone, count) if self._together else alone
        places = average_neighbours(um, around, self.config.vision.context_um) if self._together else []
        z = self.network.image.add_context(alone, [mean[mine] for mean in places])
        return ImageOutputs(chosen, um, values, inputs, features, z, around)

    def loss_terms(self, seen: ImageOutputs, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted loss terms."""
        weights, ranks, count = self.config.objective, self.ranks, len(seen.chosen)
        parts: dict[str, Tensor] = {}
        if weights.contrast > 0 or weights.paat is not Paat.none:
            parts |= self._text_losses(seen.z, seen.values, seen.chosen, generator)
        if weights.mfm > 0:
            drawn = torch.rand(count, seen.features.shape[1], generator=generator)
            order = drawn[ranks.share(count)].argsort(1).to(seen.z.device)
            image, kind = self.network.image, weights.mfm_loss
            loss = masked_feature_loss(image, seen.inputs, seen.features, order, weights.mask, kind)
            parts["mfm"] = weights.mfm * ranks.weight(count) * loss
        if weights.mfm_spots > 0:
            spots: SpotGenerator = self.extra["spots"]  # type: ignore[assignment]
            loss = masked_spot_loss(spots, seen.around, seen.um, weights.mask, generator)
            parts["mfm_spots"] = weights.mfm_spots * loss
        if weights.ranking > 0 or weights.correlation > 0:
            parts |= self._map_losses(ranks.gather(seen.z, count), seen.values, generator)
        return parts

    @property
    def _together(self) -> bool:
        """Whether z of a spot depends on the tiles of other spots of the batch."""
        return bool(self.config.vision.context_um) or self.config.objective.mfm_spots > 0

    def _text_losses(self, z: Tensor, values: Tensor, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return InfoNCE and L_pair on a random subset of genes, so that small gene panels are in distribution too.

        Parameters
        ----------
        z
            Of this rank's spots.
        values, chosen
            Of the global batch.
        """
        weights, text, mine = self.config.objective, self.network.text, self.ranks.share(len(chosen))
        most = min(self.config.train.genes, values.shape[1])
        size = int(torch.randint(min(self.config.train.fewest_genes, most), most + 1, (1,), generator=generator))
        genes = torch.randperm(values.shape[1], generator=generator)[:size]
        values, code = values[:, genes], text.encode_genes(self._read_genes(genes, generator))
        profiles = text.encode_profiles(code, values[mine])
        shuffled, parts = None, {}
        if weights.paat is not Paat.none:
            wrong = shuffle_values(values, weights.shuffled, generator)[mine]
            single = weights.paat is Paat.pairs
            shuffled = text.encode_pairs(code, wrong) if single else text.encode_profiles(code, wrong)
            if weights.paat is not Paat.negative:
                right = text.encode_pairs(code, values[mine]) if single else profiles
                parts["pair"] = weights.pair * self._pair_loss(right, shuffled, len(chosen))
        if weights.contrast > 0:
            parts["contrast"] = weights.contrast * self._contrast_loss(z, profiles, shuffled, chosen)
        return parts

    def _pair_loss(self, right: Tensor, wrong: Tensor, count: int) -> Tensor:
        """Return L_pair of the global batch; the paper's is not a mean over spots, so each rank needs all of them."""
        kind, judge = self.config.objective.paat, self.extra["judge"]
        weight = 1.0 if kind is Paat.paper else self.ranks.weight(count)
        if kind is Paat.paper:
            right, wrong = self.ranks.gather(right, count), self.ranks.gather(wrong, count)
        return weight * pair_loss(kind, judge, right, wrong, self.config.objective.reversal)  # type: ignore[arg-type]

    def _map_losses(self, z: Tensor, values: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses on zero-shot maps of the global batch, for this rank's genes.

        They are means over genes, so they are computed in chunks of genes.
        """
        weights = self.config.objective

        def losses(z: Tensor, code: Any, values: Tensor) -> Tensor:
            scores = self.network.value_scores(z, code, self.grid)
            return torch.stack([value_ranking(scores, values, self.grid), correlation_loss(scores, values, self.grid)])

        drawn = torch.randperm(values.shape[1], generator=generator)[: self.config.train.ranked_genes]
        mine = self.ranks.share(len(drawn))
        genes, read = drawn[mine], self._read_genes(drawn, generator)[mine]
        run = checkpoint_activations(losses, when=len(genes) > RANKED)
        found = []
        for some in torch.split(torch.arange(len(genes)), RANKED):
            code = self.network.text.encode_genes(read[some])
            found.append(len(some) * run(z, code, values[:, genes[some]]))
        ranking, correlation = self.ranks.weight(len(drawn)) * torch.stack(found).sum(0) / len(genes)
        both = {"ranking": weights.ranking * ranking, "correlation": weights.correlation * correlation}
        return {name: loss for name, loss in both.items() if getattr(weights, name) > 0}

    def _read_genes(self, index: Tensor, generator: torch.Generator) -> GeneInputs:
        """Return text inputs of vocabulary genes, a random share of them as if unseen (``train.forget``)."""
        genes, share = self.genes[index], self.config.train.forget
        if share > 0:
            draw = torch.rand(len(index), generator=generator).to(genes.index.device)
            genes = replace(
                genes,
                index=torch.where(draw < share, -1, genes.index),
                described=genes.described * ((draw < share) | (draw > 2 * share))[:, None],
            )
        return genes

    def _contrast_loss(self, z: Tensor, profiles: Tensor, shuffled: Tensor | None, chosen: Tensor) -> Tensor:
        weights, ranks, count = self.config.objective, self.ranks, len(chosen)
        alone = shuffled if weights.paat is Paat.negative else None
        negatives = None if alone is None else ranks.gather(alone, count)
        temperature = weights.soft_targets
        targets = soft_targets(self.data.profiles[chosen].to(z.device), temperature) if temperature > 0 else None
        z, profiles = ranks.gather(z, count), ranks.gather(profiles, count)
        return info_nce(z, profiles, self.network.scale(), targets, negatives)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw the spots of a step: from all sections, or one random spot and its nearest neighbours."""
        n = len(self.data.values)
        if not self.config.train.neighbours:
            return torch.randperm(n, generator=generator)[:batch]
        centre = int(torch.randint(n, (1,), generator=generator))
        same = torch.nonzero(self.data.section == self.data.section[centre])[:, 0]
        distance = (self.data.um[same] - self.data.um[centre]).norm(dim=1)
        return same[distance.argsort(stable=True)[:batch]]

    def _load_batch(self, chosen: Tensor, mine: slice, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs of this rank's spots, and values and positions of the global batch."""
        drawn = Draws.of(self.data, len(chosen), self.config, generator)
        inputs, values = drawn.inputs(self.data, chosen, mine), drawn.values(self.data.values[chosen])
        return inputs.to(self.device), values.to(self.device), self.data.um[chosen].to(self.device)


def check_objective(config: CoMTIPConfig) -> None:
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
