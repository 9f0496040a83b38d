"""What a fine-tuning will do, worked out before anything is trained or written: the dry run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stzoo.core.data.section import Section
from stzoo.core.data.splits import Split, SplitOptions, split
from stzoo.core.data.subsets import SpotSubset, expression_of
from stzoo.core.discovery.manager import default_manager
from stzoo.core.encoder import Encoder
from stzoo.core.finetuning.controls import fit_carried_head, own_head
from stzoo.core.finetuning.data import check_genes, choose_genes
from stzoo.core.finetuning.settings import Settings, Tune, resolve_settings
from stzoo.core.finetuning.task import FinetuneTask
from stzoo.core.heads.base import SCORED
from stzoo.core.nn.adapters import adapt
from stzoo.core.registry import model
from stzoo.core.specs import ModelSpec
from stzoo.core.training.task import Precision
from stzoo.core.workflows.features import cache_embeddings

SHOWN = 8
"""Genes that are named at most where they are listed."""


@dataclass(frozen=True)
class Plan:
    """A fine-tuning to be.

    Parameters
    ----------
    encoder
        The weights to start from, a copy of the user's whose embeddings are remembered.
    control
        Encoder of the controls; None where no plugin offers it.
    split
        Who learns, who chooses, who is scored.
    genes
        Genes that the head will know, highest mean first.
    settings
        Without an open choice.
    seed
        Of everything random.
    """

    encoder: Encoder
    control: Encoder | None
    split: Split
    genes: tuple[str, ...]
    settings: Settings
    seed: int

    @property
    def scored(self) -> tuple[str, ...]:
        """Genes that the network learns by and that are scored: the first that test sections have too."""
        has = [set(piece.section.genes) for piece in self.split.test]
        return tuple(gene for gene in self.genes if all(gene in genes for genes in has))[:SCORED]

    @property
    def new(self) -> tuple[str, ...]:
        """Genes that the head of the weights does not know."""
        head = own_head(self.encoder)
        known = set(head.genes) if head is not None else set[str]()
        return tuple(gene for gene in self.genes if gene not in known)

    @property
    def development(self) -> tuple[SpotSubset, ...]:
        """All own spots that are not held out for the test: final heads and controls are fitted on them."""
        return self.split.development

    def select_sections(self, pieces: Sequence[SpotSubset]) -> list[Section]:
        """Return the sections of some pieces as the model may see them, with the genes that it can use."""
        own = [gene for head in self.encoder.head_names() for gene in self.encoder.genes(head)]
        wanted = list(dict.fromkeys([*self.genes, *own]))
        return [piece.visible([gene for gene in wanted if gene in set(piece.section.genes)]) for piece in pieces]

    def run_identity(self) -> dict[str, Any]:
        """Return what must be the same when a run goes on, as JSON values."""
        from stzoo.core.config import dump

        return {
            "settings": dump(self.settings),
            "genes": list(self.scored),
            "split": self.split.describe(),
            "weights": dict(self.encoder.provenance).get("sha256", ""),
        }


@dataclass(frozen=True)
class Cost:
    """What a tuning costs, from one real step.

    Parameters
    ----------
    parameters, tuned
        Numbers of the network, and of those that are tuned (adapters count as tuned; heads are not counted).
    seconds
        Of all steps and validations, on this machine as it is now.
    megabytes
        Of parameters, gradients, optimiser and what a step keeps for its backward pass.
    """

    parameters: int
    tuned: int
    seconds: float
    megabytes: float


def plan_finetuning(
    encoder: Encoder,
    sections: Sequence[Section],
    *,
    test: Sequence[Section] = (),
    genes: Sequence[str] | None = None,
    settings: Settings | None = None,
    options: SplitOptions | None = None,
    seed: int = 0,
) -> Plan:
    """Look at the data and decide how to tune.

    Parameters
    ----------
    encoder
        With weights; it stays as it is.
    sections, test, options
        See :func:`~stzoo.core.data.splits.split`.
    genes
        Genes to predict; by default up to 1,000 that enough training spots show.

    Raises
    ------
    StzooError
        The data can not be split honestly, a section has no slide, or genes are missing.
    """
    for section in (*sections, *test):
        section.require_slide()
    found = split(sections, test, options)
    return make_plan(encoder, found, genes=genes, settings=settings, seed=seed)


def make_plan(
    encoder: Encoder,
    found: Split,
    *,
    genes: Sequence[str] | None = None,
    settings: Settings | None = None,
    seed: int = 0,
) -> Plan:
    """Return the plan for a split that was made."""
    chosen = choose_genes(found.development) if genes is None else check_genes(genes, found.development)
    start = cache_embeddings(fresh(encoder, seed))
    decided = resolve_settings(settings or Settings(), sum(piece.n for piece in found.train), start)
    if not found.validation:
        decided = replace(decided, tune=Tune.head, contrast=False)
    return Plan(start, control_encoder(), found, tuple(chosen), decided, seed)


def fresh(encoder: Encoder, seed: int) -> Encoder:
    """Return a copy of an encoder, made of what it would save."""
    made = type(encoder)(encoder.config, device="cpu", seed=seed)
    made.restore(encoder.state(), encoder.description(), encoder.assets())
    made.provenance = dict(encoder.provenance)
    return made.to(encoder.device)


def control_encoder() -> Encoder | None:
    """Return the encoder of the controls (``ModelSpec.is_control``), remembering, or None where none is installed."""
    names = [f"{plugin.dist}:{spec.name}" for plugin, spec in default_manager().specs_of(ModelSpec) if spec.is_control]
    return cache_embeddings(model(names[0], role="encoder")) if names else None


def cost(plan: Plan) -> Cost:
    """Take one real step on as many spots as a batch has, without keeping anything of it."""
    if plan.settings.tune is Tune.head:
        return Cost(0, 0, 0.0, 0.0)
    with tempfile.TemporaryDirectory() as cache:
        return _measure_cost(plan, _first(plan.split.train, plan.settings.rates.batch), Path(cache))


def _first(pieces: Sequence[SpotSubset], count: int) -> list[SpotSubset]:
    """Return the first spots of some pieces, ``count`` in all."""
    found = []
    for piece in pieces:
        spots = piece.spots & (np.cumsum(piece.spots) <= count)
        if spots.any():
            found.append(replace(piece, spots=spots))
        count -= int(spots.sum())
    return found


def _measure_cost(plan: Plan, pieces: Sequence[SpotSubset], cache: Path) -> Cost:
    encoder, genes = fresh(plan.encoder, plan.seed), plan.scored
    tunable = encoder.tunable(plan.select_sections(pieces), cache=cache, contrast=bool(plan.settings.contrast))
    parameters = sum(p.numel() for p in tunable.module().parameters())
    if plan.settings.tune is Tune.lora:
        adapt(tunable.module(), tunable.adapted_layers(), rank=plan.settings.rank, seed=plan.seed)
    tuned = sum(p.numel() for p in tunable.module().parameters() if p.requires_grad)
    head = fit_carried_head(plan.encoder, pieces, genes, own_head(plan.encoder))
    task = FinetuneTask(tunable, head, expression_of(pieces, genes), plan.settings.rates)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    began = time.perf_counter()
    halved = plan.settings.precision is Precision.bf16
    with (
        torch.autocast(task.head.weights.device.type, torch.bfloat16, enabled=halved),
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        task.losses(0, torch.Generator().manual_seed(plan.seed))["loss"].backward()  # type: ignore[no-untyped-call]
    step = plan.settings.accumulate * (time.perf_counter() - began)
    began = time.perf_counter()
    few = plan.split.validation[0].section.take(np.arange(min(64, len(plan.split.validation[0].section))))
    encoder.embed(few)
    spot = (time.perf_counter() - began) / len(few)
    judged = sum(len(piece.section) for piece in plan.split.validation) * spot * plan.settings.validations
    bytes_ = 4 * (parameters + 3 * tuned) + sum(kept.values())
    return Cost(parameters, tuned, step * plan.settings.rates.steps + judged, bytes_ / 1e6)


def describe_plan(plan: Plan, price: Cost | None = None) -> list[str]:
    """Return what is going to happen, line by line."""
    lines = []
    for name, pieces in (("own", plan.development), ("test", plan.split.test)):
        for section, patient in {id(p.section): (p.section, p.patient) for p in pieces}.values():
            mpp = "µm/px unknown" if section.mpp is None else f"{section.mpp:.3g} µm/px"
            who = f"patient {patient}" if patient else "patient unknown"
            lines.append(f"{name} data: {section.name}, {len(section)} spots, {section.n_genes} genes, {mpp}, {who}")
    lines += plan.split.lines()
    lines += [f"note: {note}" for note in plan.split.notes]
    known = len(plan.genes) - len(plan.new)
    lines.append(
        f"genes: {len(plan.genes)}, {known} known to the head of the weights, {len(plan.new)} new{_names(plan.new)}"
    )
    lines.append(f"scored: the {len(plan.scored)} of highest mean on own data")
    s, r = plan.settings, plan.settings.rates
    if s.tune is Tune.head:
        lines.append("tuned: the head only, drawn towards that of the weights" + _why_head(plan))
        return lines
    own = ", with the pretraining objective (contrast)" if s.contrast else ", without contrast"
    share = (
        f", {price.tuned:,} of {price.parameters:,} parameters ({price.tuned / price.parameters:.1%})" if price else ""
    )
    lines.append(f"tuned: {s.tune.value}{own}{share}")
    batch = f"{r.batch} spots" if s.accumulate == 1 else f"{s.accumulate} x {r.batch} spots"
    lines.append(f"steps: at most {r.steps} of {batch}, rate {r.learning_rate:g}, {s.validations} validations")
    if s.precision is not Precision.fp32:
        lines.append(f"precision: {s.precision.value}")
    if price:
        lines.append(
            f"estimate: {price.seconds:.0f} s and {price.megabytes:.0f} MB beside the data, from one real step"
        )
    return lines


def _why_head(plan: Plan) -> str:
    return "" if plan.split.validation else " (too few spots to hold some out for validation)"


def _names(genes: Sequence[str]) -> str:
    if not genes:
        return ""
    return f" ({', '.join(genes[:SHOWN])}{' ...' if len(genes) > SHOWN else ''})"
