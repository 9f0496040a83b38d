"""The network's part of fine-tuning: train from the planned start, keep the best on validation, take it over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from stzoo.core.data.subsets import expression_of
from stzoo.core.encoder import Encoder
from stzoo.core.finetuning.controls import fit_carried_head, own_head
from stzoo.core.finetuning.data import embed_subsets
from stzoo.core.finetuning.plan import Plan, fresh
from stzoo.core.finetuning.settings import Tune
from stzoo.core.finetuning.task import FinetuneTask
from stzoo.core.heads.ridge import RidgeHead
from stzoo.core.metrics.summary import mean_pcc
from stzoo.core.nn.adapters import adapt, merge
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.slides.tile_cache import cache_folder, drop_own_cache
from stzoo.core.training.loop import fit
from stzoo.core.training.task import Fit, Validation
from stzoo.core.tunable import Tunable


@dataclass(frozen=True)
class Tuned:
    """A tuned encoder.

    Parameters
    ----------
    encoder
        Frozen again; it brings no head that was fitted on other embeddings.
    head
        The head that it was tuned for: of the scored genes, fitted on the training spots.
    fit
        What became of the run.
    parameters, tuned
        Numbers of the network, and of those that were tuned.
    """

    encoder: Encoder
    head: RidgeHead
    fit: Fit
    parameters: int
    tuned: int


def tune(
    plan: Plan,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    trackers: Sequence[str] = (),
    ranks: Ranks = ALONE,
) -> Tuned:
    """Tune the network of a plan on its training pieces.

    Parameters
    ----------
    out
        Folder of the run: checkpoints, ``log.csv``, ``validation.csv``.
    resume, progress, trackers, ranks
        See :func:`stzoo.core.training.loop.fit`.
    """
    encoder, settings = fresh(plan.encoder, plan.seed), plan.settings
    learned = plan.select_sections(plan.split.train)
    tunable = encoder.tunable(learned, cache=cache_folder(out), contrast=bool(settings.contrast), ranks=ranks)
    parameters = sum(p.numel() for p in tunable.module().parameters())
    if settings.tune is Tune.lora:
        adapt(tunable.module(), tunable.adapted_layers(), rank=settings.rank, seed=plan.seed)
    tuned = sum(p.numel() for p in tunable.module().parameters() if p.requires_grad)
    start = fit_carried_head(plan.encoder, plan.split.train, plan.scored, own_head(plan.encoder))
    task = FinetuneTask(tunable, start, expression_of(plan.split.train, plan.scored), settings.rates, ranks)
    steps = settings.rates.steps
    done = fit(
        task,
        out=out,
        steps=steps,
        seed=plan.seed,
        config=plan.run_identity(),
        resume=resume,
        checkpoint_every=max(1, steps // settings.validations),
        progress=progress,
        accumulate=settings.accumulate,
        precision=settings.precision,
        trackers=trackers,
        ranks=ranks,
        validation=Validation(
            lambda: {"pcc": _validate(plan, encoder, task)},
            every=max(1, steps // settings.validations),
            patience=settings.patience,
        ),
    )
    if ranks.is_main:  # all ranks are past their last step
        drop_own_cache(out)
    _take_over(tunable, plan)
    encoder.fitted_heads.clear()
    return Tuned(encoder, start, done, parameters, tuned)


def _validate(plan: Plan, encoder: Encoder, task: FinetuneTask) -> float:
    """Return the mean correlation on the validation spots of what the task predicts as it is."""
    seen = embed_subsets(encoder, plan.split.validation)
    device = task.head.weights.device
    with torch.no_grad():
        guess = task.head(torch.from_numpy(seen).to(device)).cpu().numpy()
    return mean_pcc(expression_of(plan.split.validation, plan.scored), guess)


def _take_over(tunable: Tunable, plan: Plan) -> None:
    if plan.settings.tune is Tune.lora:
        merge(tunable.module())
    tunable.finish(plan.select_sections(plan.development))
