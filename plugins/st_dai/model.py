"""ST-DAI: from one fully measured section and sparse neighbours to a dense stack (arXiv 2507.21516)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stzoo import Encoder, Filled, FilledPart, PartImputer, Progress, Ranks, Stack
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.training import fit_short
from stzoo.core.workflows.features import cache_embeddings, encoder_of
from stzoo.plugins.st_dai.confidence import score_labels
from stzoo.plugins.st_dai.config import Input, LabelSource, Learn, STDAIConfig, TunedPart, Where
from stzoo.plugins.st_dai.inputs import StackInputs
from stzoo.plugins.st_dai.kriging import KrigingPredictions, krige
from stzoo.plugins.st_dai.network import STDAINetwork, adapt, count_untouched_layers, iterate_tuned_parameters
from stzoo.plugins.st_dai.pseudo import transfer
from stzoo.plugins.st_dai.training import Domain, Labels, RefineTask, SourceTask, weigh_spots

CHUNK = 4096
"""Spots predicted at a time."""
WHOLE = 1000
"""Total of the progress that is reported."""


@dataclass(frozen=True)
class Report:
    """What the last call of :meth:`STDAI.fill` trained.

    Parameters
    ----------
    parameters, tuned
        Of the network, and of what refinement tuned for one adjacent section.
    source_seconds, refine_seconds
        Wall time of training the network, and of refining it for all adjacent sections.
    refine_cpu_seconds
        Processor time of refining it: what a busy machine does not blur.
    """

    parameters: int
    tuned: int
    source_seconds: float
    refine_seconds: float
    refine_cpu_seconds: float


class STDAI(PartImputer):
    """Intra-sample domain-adaptive imputation of a stack (a re-implementation; no code or weights are public).

    The stack's sections share a frame (``stzoo.core.workflows.align_stack.align_stack``, any aligner). The one with
    most measured spots is *central*. Pseudo-labels fill every spot; a network on a frozen encoder is trained on the
    measured spots, by default on the residual of the pseudo-labels; parameter-efficient layers adapt it to each
    adjacent section (FMDR), where pseudo-labels are weighted by confidence (CSG). The specification, ``st-dai``, says
    what is the paper's (the parts and their order) and what is our reading (every formula). That pseudo-labels come
    from kriging, and that the result is a mean of pseudo-label and network, is ours.

    Attributes
    ----------
    report
        Parameters and wall time of the last call; None before.
    """

    name = "st-dai"
    config_class = STDAIConfig
    config: STDAIConfig
    needs_whole_section = True

    report: Report | None = None

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill section by section (see :class:`Imputer`): ranks share images and kriging, the first one trains.

        Raises
        ------
        DataError
            The stack has one section only, or an encoder is asked for and a section has no slide.
        """
        encoder = self._encoder_for(stack)
        inputs = StackInputs.of(
            stack,
            values,
            encoder=encoder,
            within=self.config.standardise_within,
            components=self.config.pseudo.components,
            seed=self.seed,
            ranks=ranks,
        )
        kriged = krige(inputs, ranks)
        if not ranks.is_main:
            return
        value, sure = _FillRun(inputs, self, progress).run(kriged)
        value = np.maximum(value + inputs.means[inputs.section], inputs.floor)
        ends = np.cumsum([len(given) for given in values])[:-1]
        for number, (v, c) in enumerate(zip(np.split(value, ends), np.split(sure, ends), strict=True)):
            yield FilledPart(number, slice(None), Filled(v.astype(np.float32), c.astype(np.float32)))

    def _encoder_for(self, stack: Stack) -> Encoder | None:
        name, asked = self.config.encoder, self.config.input in (Input.image, Input.image_expression)
        if name == "none" or (name == "auto" and not asked and any(one.slide is None for one in stack.sections)):
            return None
        if not self.config.train_encoder:
            return self._encoder
        trained = encoder_of(self._encoder_name, device=self.device, seed=self.seed)
        with tempfile.TemporaryDirectory() as scratch:
            trained.train(stack.sections, out=Path(scratch), progress=False)
        return trained

    @property
    def _encoder_name(self) -> str:
        return "colour-texture" if self.config.encoder == "auto" else self.config.encoder

    @cached_property
    def _encoder(self) -> Encoder:
        """The frozen encoder; its embeddings are cached, so that filling a stack again is quick."""
        return cache_embeddings(encoder_of(self._encoder_name, device=self.device, seed=self.seed))


class _FillRun:
    """One call of ``fill``: from the inputs of a stack to filled spots."""

    def __init__(self, inputs: StackInputs, model: STDAI, progress: Progress | None) -> None:
        self.inputs, self.model, self.config = inputs, model, model.config
        self._progress = progress
        self._seconds = {"source": 0.0, "refine": 0.0}
        self._cpu_seconds = dict(self._seconds)

    def run(self, kriged: KrigingPredictions) -> tuple[Doubles, Floats]:
        """Return expression relative to section means, float64 (n, g), and confidence, float32 (n, g)."""
        inputs, config = self.inputs, self.config
        moved = transfer(inputs, config.pseudo.neighbours)
        x = self._build_inputs(kriged)
        network = self._build_network(x)
        labels = {LabelSource.kriging: kriged.genes, LabelSource.transfer: moved.genes}.get(
            config.pseudo.source, np.zeros_like(kriged.genes)
        )
        base = labels if config.residual else np.zeros_like(labels)
        self._train(network, x, base)
        if config.pseudo.source in (LabelSource.model, LabelSource.blend):
            labels = self._predict([network] * len(inputs.means), x)
            if config.pseudo.source is LabelSource.blend:
                labels = (labels + moved.genes) / 2
        confident = score_labels(inputs, labels, kriged, moved, config.csg, seed=self.model.seed)
        networks = self._refine(network, x, labels, base, confident.weight)
        found = base + self._predict(networks, x)
        share = 1.0 if config.pseudo.source is LabelSource.none else config.share
        self._write_report(network, networks)
        if self._progress:
            self._progress(WHOLE, WHOLE)  # also where nothing was refined
        return (1 - share) * labels + share * found, confident.estimate_confidence()

    def _build_inputs(self, kriged: KrigingPredictions) -> torch.Tensor:
        """Return the input features of every spot, float32 (n, d)."""
        inputs, wanted = self.inputs, self.config.input
        features = inputs.places.features
        if wanted is Input.auto:
            wanted = Input.image if features is not None else Input.expression
        parts = []
        if wanted in (Input.image, Input.image_expression) and features is not None:
            parts.append(features / max(float(features[inputs.seen].std()), 1e-12))
        if wanted in (Input.image_expression, Input.expression):
            parts.append(kriged.scores / np.maximum(kriged.scores[inputs.seen].std(axis=0), 1e-12))
        return torch.from_numpy(np.hstack(parts).astype(np.float32)).to(self.model.device)

    def _build_network(self, x: torch.Tensor) -> STDAINetwork:
        found = self.inputs.components
        loadings = found.loadings * found.scores.std(axis=0)[:, None]
        with use_seed(self.model.seed):
            network = STDAINetwork(x.shape[1], torch.from_numpy(loadings.astype(np.float32)), self.config.network)
        return network.to(self.model.device)

    def _label_measured(self, x: torch.Tensor, base: Doubles) -> Labels:
        """Return the targets of measured spots: expression less ``base``, weighted by the inverse of their noise."""
        inputs = self.inputs
        target = np.zeros((len(inputs), inputs.y.shape[1]), dtype=np.float32)
        target[inputs.seen] = inputs.y - base[inputs.seen]
        weight = weigh_spots(inputs.noise, inputs.seen, len(inputs))
        return Labels(x, torch.from_numpy(target).to(x.device), weight.to(x.device))

    def _train(self, network: STDAINetwork, x: torch.Tensor, base: Doubles) -> None:
        inputs, config = self.inputs, self.config.network
        own = inputs.of_section(inputs.central) if config.learn is Learn.central else slice(None)
        task = SourceTask(network, self._label_measured(x, base), inputs.seen[own], config, self._share_progress(0))
        with self._measure_time("source"):
            fit_short(task, steps=config.steps, seed=self.model.seed)

    def _refine(
        self, network: STDAINetwork, x: torch.Tensor, labels: Doubles, base: Doubles, weight: Doubles
    ) -> list[STDAINetwork]:
        """Adapt the network to each section; the central section keeps it as it was trained."""
        inputs, config = self.inputs, self.config.refine
        network.requires_grad_(False)
        if config.tune is TunedPart.none or not config.steps:
            return [network.eval()] * len(inputs.means)
        with use_seed(self.model.seed):
            own = adapt(network, config.tune, self.config.pdl, len(inputs.adjacent))
        own = [
            one.to(self.model.device).train(config.tune is TunedPart.all) for one in own
        ]  # no dropout in what is frozen
        pseudo = Labels(
            x,
            torch.from_numpy((labels - base).astype(np.float32)).to(x.device),
            torch.from_numpy(weight.astype(np.float32)).to(x.device),
        )
        domains = [self._select_domain(number) for number in inputs.adjacent]
        kept = count_untouched_layers(config.tune, self.config.pdl, len(network.layers))
        task = RefineTask(
            own, domains, self._label_measured(x, base), pseudo, config, self._share_progress(1), kept=kept
        )
        with self._measure_time("refine"):
            fit_short(task, steps=config.steps, seed=self.model.seed + 1)
        found = [network.eval()] * len(inputs.means)
        for number, one in zip(inputs.adjacent, own, strict=True):
            found[number] = one.eval()
        return found

    def _select_domain(self, number: int) -> Domain:
        inputs, config = self.inputs, self.config.pseudo
        central = inputs.seen[inputs.of_section(inputs.central)]
        pseudo = np.flatnonzero((inputs.section == number) & ~inputs.measured)
        if config.source is LabelSource.none:
            pseudo = pseudo[:0]
        elif config.where is Where.central:
            pseudo = central
        return Domain(inputs.seen[inputs.of_section(number)], pseudo, central)

    def _predict(self, networks: Sequence[STDAINetwork], x: torch.Tensor) -> Doubles:
        """Predict the spots of each section with its own network, float64 (n, g)."""
        out = np.zeros((len(self.inputs), self.inputs.y.shape[1]))
        with torch.inference_mode():
            for number, network in enumerate(networks):
                network.eval()
                spots = np.flatnonzero(self.inputs.section == number)
                for start in range(0, len(spots), CHUNK):
                    some = spots[start : start + CHUNK]
                    out[some] = network(x[torch.from_numpy(some)]).cpu().numpy()
        return out

    @contextmanager
    def _measure_time(self, what: str) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self._seconds[what] = time.perf_counter() - start
        self._cpu_seconds[what] = time.process_time() - cpu

    def _write_report(self, network: STDAINetwork, networks: Sequence[STDAINetwork]) -> None:
        one = networks[self.inputs.adjacent[0]]
        self.model.report = Report(
            parameters=sum(p.numel() for p in network.parameters()),
            tuned=0 if one is network else sum(p.numel() for p in iterate_tuned_parameters([one])),
            source_seconds=self._seconds["source"],
            refine_seconds=self._seconds["refine"],
            refine_cpu_seconds=self._cpu_seconds["refine"],
        )

    def _share_progress(self, number: int) -> Progress | None:
        """Return the progress of one of the two trainings, in parts of :data:`WHOLE`."""
        whole = self._progress
        if whole is None:
            return None
        tell: Callable[[int, int], Any] = whole
        return lambda done, total: tell(round(WHOLE / 2 * (number + done / max(total, 1))), WHOLE)
