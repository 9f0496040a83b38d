"""Fine-tuning of CoMTIP: its embedding with gradients, and optionally its pretraining objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from stzoo import GeneError, Ranks, Section, Tunable
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.tunable import Batch
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.data import gather
from stzoo.plugins.comtip.embedding import has_statistics
from stzoo.plugins.comtip.objective import ImageOutputs, Objective, average_neighbours
from stzoo.plugins.comtip.weights import Weights
from torch import Tensor, nn

ADAPTED = (".qkv", ".proj", ".fc1", ".fc2", "projection", "skip")
"""Ends of the names of the linear layers that get adapters: those of the ViT's blocks, and what makes z of them."""


class CoMTIPTuning(Tunable):
    """Tunes the image tower, and with ``contrast`` the text tower too.

    Parameters
    ----------
    weights
        The networks, tuned in place, and the vocabulary.
    config
        Options of the model.
    sections
        Whose measured spots are learned from.
    contrast
        Also compute the pretraining losses (the paper's and ours), on the vocabulary genes that all sections have.
    cache
        Folder for the cache of tiles or statistics.
    seed
        Of the shifts of the tiles, and (plus 1) of the initial weights of the discriminator.
    ranks
        The processes that share a batch.
    adopt
        Called with the sections at the end: the model rounds the tuned network and recalibrates zero-shot.
    """

    def __init__(
        self,
        weights: Weights,
        config: CoMTIPConfig,
        sections: Sequence[Section],
        *,
        contrast: bool,
        cache: Path,
        seed: int,
        ranks: Ranks,
        adopt: Callable[[Sequence[Section]], None],
    ) -> None:
        network, vocabulary = weights.network, weights.vocabulary
        shared = set.intersection(*(set(section.genes) for section in sections))
        genes = [gene for gene in vocabulary.genes if gene in shared]
        if contrast and not genes:
            raise GeneError(
                f"the sections have none of the {len(vocabulary.genes)} genes of these weights",
                todo="check the gene symbols, or tune without their own objective: --no-contrast",
            )
        genes = genes or sections[0].genes[:1]
        self.config, self.contrast, self.adopt = config, contrast, adopt
        network.requires_grad_(contrast)
        network.image.requires_grad_(True)
        network.image.generator.requires_grad_(contrast)
        data = gather(sections, genes, config, seed, cache=cache)
        with use_seed(seed + 1):
            self.objective = Objective(network, data, vocabulary.inputs(genes), config, ranks)

    def module(self) -> nn.Module:
        """Return the network (see :class:`Tunable`)."""
        return self.objective.network

    def adapted_layers(self) -> list[str]:
        """Return the linear layers of the image tower."""
        names = [name for name, part in self.objective.network.image.named_modules() if isinstance(part, nn.Linear)]
        return [f"image.{name}" for name in names if name.endswith(ADAPTED)]

    def extra(self) -> nn.Module | None:
        """Return the discriminator and the generator of spots, where the objective has them."""
        return self.objective.extra if self.contrast else None

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw spots as pretraining does."""
        return self.objective.draw(size, generator)

    def batch(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        """Embed spots and, with ``contrast``, compute the pretraining losses on them."""
        seen = self.objective.encode_images(chosen, generator)
        losses = self.objective.loss_terms(seen, generator) if self.contrast else {}
        return Batch(self._embed(seen), losses)

    def _embed(self, seen: ImageOutputs) -> Tensor:
        """Embed as ``CoMTIP.embed`` does: z_img, patch statistics, and their means over neighbours in the batch."""
        own = seen.z
        if has_statistics(self.config):
            own = torch.cat([own, seen.inputs.mean(1), seen.inputs.std(1)], dim=1)
        ranks, count, widths = self.objective.ranks, len(seen.chosen), self.config.context_um
        mine, around = ranks.share(count), ranks.gather(own, count) if widths else own
        return torch.cat([own, *(mean[mine] for mean in average_neighbours(seen.um, around, widths))], dim=1)

    def finish(self, sections: Sequence[Section]) -> None:
        """Freeze and round the network; calibrate zero-shot on the sections, for the genes that they have."""
        self.adopt(sections)
