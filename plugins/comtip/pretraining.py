"""Pretraining of CoMTIP: from sections and options to weights, through one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stzoo.core import config as configs
from stzoo.core.distributed import ALONE, Ranks
from stzoo.core.section import Section
from stzoo.core.seeding import seeded
from stzoo.core.tile_cache import cache_folder, drop_own_cache
from stzoo.core.train import Fit, fit
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.data import gather, training_genes
from stzoo.plugins.comtip.starting import Start
from stzoo.plugins.comtip.training import TrainingTask
from stzoo.plugins.comtip.vocabulary import Vocabulary
from stzoo.plugins.comtip.weights import Weights, network_for


def begun(sections: Sequence[Section], config: CoMTIPConfig, seed: int, start: Start | None = None) -> Weights:
    """Return the weights that training on some sections starts from: random, or a checkpoint's."""
    genes = training_genes(sections, config.train.min_detected, config.train.max_genes)
    vocabulary = Vocabulary(genes, config.text, start.tokenizer if start else None)
    with seeded(seed):
        weights = Weights.fresh(config, vocabulary)
    if start is not None:
        start.fill(weights.network)
        weights.started_from = {"source": start.source, "sha256": start.sha256}
    return weights


@dataclass(frozen=True)
class Pretraining:
    """A run from a config.

    Parameters
    ----------
    config, seed, device
        Of the model.
    start
        A checkpoint to start from.
    out, resume, progress, trackers, ranks
        See :func:`stzoo.core.train.fit`.
    """

    config: CoMTIPConfig
    seed: int
    device: str
    out: Path
    start: Start | None = None
    resume: bool = False
    progress: bool = True
    trackers: Sequence[str] = ()
    ranks: Ranks = ALONE

    def run(self, sections: Sequence[Section]) -> tuple[Weights, Fit]:
        """Train on the measured spots of sections; return the averaged weights, not calibrated, and how it went."""
        weights = begun(sections, self.config, self.seed, self.start)
        weights.network.to(self.device)
        task = self._task(weights, sections)
        done = self._fit(task, weights, sections)
        if self.ranks.is_main:  # all ranks are past their last step
            drop_own_cache(self.out)
        weights.network = network_for(self.config, weights.vocabulary).to(self.device)
        weights.network.load_state_dict(task.averaged())
        return weights, done

    def _task(self, weights: Weights, sections: Sequence[Section]) -> TrainingTask:
        genes, shown = list(weights.vocabulary.genes), self.progress and self.ranks.is_main
        data = gather(sections, genes, self.config, self.seed, cache=cache_folder(self.out), progress=shown)
        started = frozenset(self.start.state) if self.start else frozenset[str]()
        with seeded(self.seed + 1):  # what only training uses starts at random as well
            return TrainingTask(
                weights.network, data, weights.vocabulary.inputs(genes), self.config, started, self.ranks
            )

    def _fit(self, task: TrainingTask, weights: Weights, sections: Sequence[Section]) -> Fit:
        train = self.config.train
        run = {
            "config": configs.dump(self.config),
            "sections": [section.name for section in sections],
            "started_from": dict(weights.started_from),
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
            trackers=self.trackers,
            ranks=self.ranks,
            sharded=task.blocks(),
        )
