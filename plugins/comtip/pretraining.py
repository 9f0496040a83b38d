"""Pretraining of CoMTIP: from sections and options to weights, through one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stzoo.core import config as configs
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError
from stzoo.core.heads.held_out import HeldOut
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.runtime.seeding import seeded
from stzoo.core.slides.tile_cache import cache_folder, drop_own_cache
from stzoo.core.training.loop import Fit, Validation, fit
from stzoo.plugins.comtip.config import CoMTIPConfig, Watch
from stzoo.plugins.comtip.data import gather, training_genes
from stzoo.plugins.comtip.judging import Examiner
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
        See :func:`stzoo.core.training.loop.fit`.
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

    def run(self, sections: Sequence[Section], validation: Sequence[Section] = ()) -> tuple[Weights, Fit]:
        """Train on the measured spots of sections; return the averaged weights, not calibrated, and how it went.

        Parameters
        ----------
        validation
            Sections that judge the averaged weights; those of the best judgement are returned.
        """
        weights = begun(sections, self.config, self.seed, self.start)
        held_out = self._held_out(sections, validation, weights.vocabulary) if validation else None
        weights.network.to(self.device)
        task = self._task(weights, sections)
        done = self._fit(task, weights, sections, held_out)
        if self.ranks.is_main:  # all ranks are past their last step
            drop_own_cache(self.out)
        weights.network = network_for(self.config, weights.vocabulary).to(self.device)
        weights.network.load_state_dict(task.averaged())
        if held_out is not None:
            weights.validated = {**held_out.described(), **self._judged(done)}
        return weights, done

    def _held_out(self, training: Sequence[Section], validation: Sequence[Section], vocabulary: Vocabulary) -> HeldOut:
        objective, watch = self.config.objective, self.config.train.watch
        if watch is Watch.zero_shot_pcc and not (objective.contrast or objective.ranking or objective.correlation):
            raise ConfigError(
                "this objective trains no text branch, so its figure says nothing", todo="set train.watch=ridge_pcc"
            )
        return HeldOut(training, validation, vocabulary.genes)

    def _task(self, weights: Weights, sections: Sequence[Section]) -> TrainingTask:
        genes, shown = list(weights.vocabulary.genes), self.progress and self.ranks.is_main
        data = gather(sections, genes, self.config, self.seed, cache=cache_folder(self.out), progress=shown)
        started = frozenset(self.start.state) if self.start else frozenset[str]()
        with seeded(self.seed + 1):  # what only training uses starts at random as well
            return TrainingTask(
                weights.network, data, weights.vocabulary.inputs(genes), self.config, started, self.ranks
            )

    def _fit(self, task: TrainingTask, weights: Weights, sections: Sequence[Section], held_out: HeldOut | None) -> Fit:
        train = self.config.train
        run = {
            "config": configs.dump(self.config),
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
            validation=self._validation(task, weights, held_out) if held_out else None,
            trackers=self.trackers,
            ranks=self.ranks,
            sharded=task.blocks(),
        )

    def _validation(self, task: TrainingTask, weights: Weights, held_out: HeldOut) -> Validation:
        """Return how the moving average, which is what is kept, is judged."""
        train, averaged = self.config.train, replace(weights, network=task.average)
        examiner = Examiner(averaged, self.config, held_out, self.device)
        return Validation(examiner, every=train.validate_every, patience=train.patience, watch=train.watch.value)

    def _judged(self, done: Fit) -> dict[str, Any]:
        train = self.config.train
        figures = {name: round(value, 4) for name, value in done.validation.items()}
        steps = {"step": done.best_step, "steps": done.steps, "planned": train.steps}
        return {"watched": train.watch.value, "figures": figures, **steps}
