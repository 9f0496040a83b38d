"""Pretraining of CoMTIP: from sections and options to weights, through one run."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stzoo import BlockShare, ConfigError, Ranks, Section
from stzoo.core import config as configs
from stzoo.core.arrays import Floats
from stzoo.core.heads.held_out_sections import HeldOut
from stzoo.core.nn import Block
from stzoo.core.runtime.blocks import stack_blocks
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.slides import cache_folder, drop_own_cache
from stzoo.core.training import Fit, Validation, fit
from stzoo.core.training.sharding import whole
from stzoo.plugins.comtip.config import CoMTIPConfig, Watch
from stzoo.plugins.comtip.data import TrainingData, choose_training_genes, gather
from stzoo.plugins.comtip.embedding import append_context, count_own_features, fill_spot_table
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.objective import Objective
from stzoo.plugins.comtip.text_tower import GeneInputs
from stzoo.plugins.comtip.vocabulary import Vocabulary
from stzoo.plugins.comtip.weights import StartingWeights, Weights, make_network
from torch import Tensor, nn


class CoMTIPTask(Objective):
    """One step of CoMTIP's objective (a :class:`stzoo.core.training.TrainingTask`).

    Parameters
    ----------
    network, data, genes, ranks
        See :class:`Objective`.
    started
        Names of the parameters initialised from a checkpoint: their learning rate is ``train.tower_rate``.
    """

    def __init__(
        self,
        network: CoMTIPNetwork,
        data: TrainingData,
        genes: GeneInputs,
        config: CoMTIPConfig,
        started: frozenset[str] = frozenset(),
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(network, data, genes, config, ranks)
        self.started = started
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.both = nn.ModuleDict({"network": network, "average": self.average, **self.extra})
        self.both.to(self.device)

    def module(self) -> nn.Module:
        """Return the network, its moving average, and what only training uses."""
        return self.both

    def blocks(self) -> list[nn.Module]:
        """Return the transformer blocks to shard over ranks, if the network is large enough."""
        large = sum(p.numel() for p in self.network.parameters()) > self.config.train.shard_above
        return [part for part in self.both.modules() if isinstance(part, Block)] if large else []

    def gather_average(self) -> dict[str, Tensor]:
        """Return the unsharded tensors of the moving average; a collective call, on all ranks."""
        return {name: whole(tensor) for name, tensor in self.average.state_dict().items()}

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW: weight decay on matrices only; own learning rates for gene table and checkpoint weights."""
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
        seen = self.encode_images(self.draw(self.config.train.batch, generator), generator)
        parts = self.loss_terms(seen, generator)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def after_step(self, step: int) -> None:
        """Update the moving average of the weights: fast at the start, slowly at the end."""
        keep = min(self.config.train.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)


class Examiner:
    """Scores weights as they stand on held-out sections (``score`` of :class:`stzoo.core.training.loop.Validation`).

    Parameters
    ----------
    weights
        The network is used as it is at each call; zero-shot is calibrated anew each time, as at the end of training.
    config
        Of the model. Tiles are embedded in one pose, whatever it says: an eighth of the cost.
    held_out
        Spots to fit a head on, and spots to test it on.
    device
        Where the network is.
    """

    def __init__(self, weights: Weights, config: CoMTIPConfig, held_out: HeldOut, device: str) -> None:
        self.weights, self.held_out, self.device = weights, held_out, device
        self.config = replace(config, vision=replace(config.vision, poses=False))

    def __call__(self) -> Mapping[str, float]:
        """Return the scores by the names of :class:`~stzoo.plugins.comtip.config.Watch`."""
        held_out, text = self.held_out, self.weights.zero_shot(self.config)
        learn, held = ([self._embed(section) for section in side] for side in (held_out.learn, held_out.held))
        text.calibrate(self._take_z(np.concatenate(learn)), held_out.genes, held_out.learned)
        read = [
            text.predict(self._take_z(seen), genes).values for seen, genes in zip(held, held_out.known, strict=True)
        ]
        return {
            Watch.zero_shot_pcc.value: held_out.pcc(read),
            Watch.ridge_pcc.value: held_out.ridge_pcc(learn, held),
        }

    def _take_z(self, embedding: Floats) -> Floats:
        """Return z_img, the first columns of an embedding."""
        return embedding[:, : self.config.embedding_dim].copy()

    def _embed(self, section: Section) -> Floats:
        """Embed a section, or a part of one, as :meth:`CoMTIP.embed` does."""
        config, share = self.config, BlockShare(len(section))
        own = fill_spot_table(self.weights.network, config, section, share, self.device)
        width = count_own_features(config) * (1 + len(config.context_um))
        return stack_blocks(append_context(own, config, section, share.blocks), len(section), width)


def initialise_weights(
    sections: Sequence[Section], config: CoMTIPConfig, seed: int, start: StartingWeights | None = None
) -> Weights:
    """Return the initial weights for training on some sections: random, or a checkpoint's."""
    genes = choose_training_genes(sections, config.train.min_detected, config.train.max_genes)
    vocabulary = Vocabulary(genes, config.text, start.tokenizer if start else None)
    with use_seed(seed):
        weights = Weights.initialise(config, vocabulary)
    if start is not None:
        start.fill(weights.network)
        weights.started_from = {"source": start.source, "sha256": start.sha256}
    return weights


@dataclass(frozen=True)
class Pretraining:
    """One training run.

    Parameters
    ----------
    config, seed, device
        Of the model.
    start
        A checkpoint to start from.
    out, resume, progress, trackers, ranks
        See :func:`stzoo.core.training.loop.fit`.
    """

    config: CoMTIPConfig
    seed: int
    device: str
    out: Path
    start: StartingWeights | None = None
    resume: bool = False
    progress: bool = True
    trackers: Sequence[str] = ()
    ranks: Ranks = ALONE

    def run(self, sections: Sequence[Section], validation: Sequence[Section] = ()) -> tuple[Weights, Fit]:
        """Train on the measured spots of sections; return the averaged weights, not calibrated, and how it went.

        Parameters
        ----------
        validation
            Sections that the averaged weights are validated on; the best of them are returned.
        """
        weights = initialise_weights(sections, self.config, self.seed, self.start)
        held_out = self._hold_out(sections, validation, weights.vocabulary) if validation else None
        weights.network.to(self.device)
        task = self._make_task(weights, sections)
        done = self._fit(task, weights, sections, held_out)
        if self.ranks.is_main:  # all ranks are past their last step
            drop_own_cache(self.out)
        weights.network = make_network(self.config, weights.vocabulary).to(self.device)
        weights.network.load_state_dict(task.gather_average())
        if held_out is not None:
            weights.validated = {**held_out.describe(), **self._describe_validation(done)}
        return weights, done

    def _hold_out(self, training: Sequence[Section], validation: Sequence[Section], vocabulary: Vocabulary) -> HeldOut:
        objective, watch = self.config.objective, self.config.train.watch
        if watch is Watch.zero_shot_pcc and not (objective.contrast or objective.ranking or objective.correlation):
            raise ConfigError(
                "this objective trains no text branch, so its score says nothing", todo="set train.watch=ridge_pcc"
            )
        return HeldOut(training, validation, vocabulary.genes)

    def _make_task(self, weights: Weights, sections: Sequence[Section]) -> CoMTIPTask:
        genes, shown = list(weights.vocabulary.genes), self.progress and self.ranks.is_main
        data = gather(sections, genes, self.config, self.seed, cache=cache_folder(self.out), progress=shown)
        started = frozenset(self.start.state) if self.start else frozenset[str]()
        with use_seed(self.seed + 1):  # what only training uses starts at random as well
            return CoMTIPTask(weights.network, data, weights.vocabulary.inputs(genes), self.config, started, self.ranks)

    def _fit(self, task: CoMTIPTask, weights: Weights, sections: Sequence[Section], held_out: HeldOut | None) -> Fit:
        train, options = self.config.train, configs.dump(self.config)
        for key in ("accumulate", "precision"):  # the loop keeps them itself, so that older runs can go on
            del options["train"][key]
        run = {
            "config": options,
            "sections": [section.name for section in sections],
            "started_from": dict(weights.started_from),
            **({"validated_on": list(held_out.names)} if held_out else {}),
        }
        return fit(
            task,
            out=self.out,
            steps=train.steps,
            seed=self.seed,
            config=run,
            resume=self.resume,
            checkpoint_every=train.checkpoint_every,
            progress=self.progress,
            accumulate=train.accumulate,
            precision=train.precision,
            validation=self._make_validation(task, weights, held_out) if held_out else None,
            trackers=self.trackers,
            ranks=self.ranks,
            sharded=task.blocks(),
        )

    def _make_validation(self, task: CoMTIPTask, weights: Weights, held_out: HeldOut) -> Validation:
        """Return the validation of the moving average of the weights, which is what a run returns."""
        train, averaged = self.config.train, replace(weights, network=task.average)
        examiner = Examiner(averaged, self.config, held_out, self.device)
        return Validation(examiner, every=train.validate_every, patience=train.patience, watch=train.watch.value)

    def _describe_validation(self, done: Fit) -> dict[str, Any]:
        train = self.config.train
        metrics = {name: round(value, 4) for name, value in done.validation.items()}
        steps = {"step": done.best_step, "steps": done.steps, "planned": train.steps}
        return {"watched": train.watch.value, "figures": metrics, **steps}
