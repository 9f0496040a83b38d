"""Kriging: a Gaussian process over position, coupled across genes and sections; the strongest simple method we know.

Every gene is kriged by itself, with its own nugget (noise) and length scale by marginal likelihood on the measured
spots. So are the first principal components of the measured profiles, which hold what genes have in common; a gene's
second prediction is put together from them. The result is the mean of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from stzoo import ConfigError, Encoder, Filled, FilledPart, PartImputer, Progress, Ranks, Stack
from stzoo.core.arrays import Doubles, Floats, Indices, Mask
from stzoo.core.data.sampling import informative
from stzoo.core.gp import (
    Choice,
    Components,
    Places,
    Posterior,
    blocks_around,
    choose_kernels,
    posteriors,
    relative_noise,
)
from stzoo.core.gp.fitting import pieces
from stzoo.core.gp.stacked import EXACT, NEIGHBOURHOOD
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.workflows.features import cache_embeddings, encoder_of, section_features, typical_distance
from stzoo.plugins.baselines.imputers._nearby import Surroundings


@dataclass
class KrigingConfig:
    """Options of ``kriging``.

    Parameters
    ----------
    components
        Principal components that couple the genes; 0 kriges gene by gene.
    encoder
        An encoder whose image embedding enters the kernel: a model that needs no weights (``colour-texture``) or a
        folder with weights. Empty: position only.
    depth
        The variance of a spot's noise falls with the root of its depth (:mod:`stzoo.core.gp.noise`), in the process, in
        means and in components, instead of being the same everywhere. Much better on sparse her2st sections
        (docs/st-dai.md).
    exact
        Up to this many measured spots (of all sections together) are solved at once; time grows with their cube.
    neighbourhood
        Beyond ``exact``, hidden spots are predicted block by block from this many nearest measured spots.
    """

    components: int = 20
    encoder: str = ""
    depth: bool = False
    exact: int = EXACT
    neighbourhood: int = NEIGHBOURHOOD

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        for name, least in (("components", 0), ("exact", 1), ("neighbourhood", 16)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}, expected at least {least}", where="config of 'kriging'"
                )


@dataclass(frozen=True)
class KrigingInputs:
    """All spots of a stack, one after the other, in the frame of the first section.

    Parameters
    ----------
    places, measured
        Of every spot of every section.
    hidden
        Indices of the spots to predict.
    seen
        Places of the measured spots that have counts, in an order that does not depend on how they came.
    y
        float32 (n_seen, g), expression of these with section means removed.
    means
        float32 (sections, g), the section means.
    floor
        float32 (g,), predictions are not let below: the lowest measured value, or 0 if that is higher.
    spacing, extent
        Median distance of nearest measured spots of a section, and the longer side of the whole, µm.
    """

    places: Places
    measured: Mask
    hidden: Indices
    seen: Places
    y: Floats
    means: Floats
    floor: Floats
    spacing: float
    extent: float

    @classmethod
    def of(
        cls, stack: Stack, values: Sequence[Floats], *, encoder: Encoder | None, depth: bool, ranks: Ranks = ALONE
    ) -> KrigingInputs:
        """Gather a stack; with an encoder image features join the places, with ``depth`` the noise of each spot."""
        sizes = [len(section) for section in stack.sections]
        um = np.concatenate([stack.um(i) for i in range(len(stack))])
        number = np.repeat(np.arange(len(stack)), sizes)
        known = np.concatenate([informative(section) for section in stack.sections])
        index = np.flatnonzero(known)
        index = index[np.lexsort((um[index, 1], um[index, 0], number[index]))]
        features = None
        if encoder is not None:
            features = section_features(stack.sections, encoder, ranks=ranks)
            features /= typical_distance(features[index])
        depths = np.concatenate([section.depth for section in stack.sections])[index]
        noise = relative_noise(np.maximum(depths, 1e-9)) if depth else np.ones(len(index))
        places = Places(um, number, features)
        y = np.concatenate(list(values))[index]
        means = np.stack([_mean(y[own], noise[own]) for own in (number[index] == i for i in range(len(stack)))])
        floor = np.minimum(y.min(axis=0), 0.0)
        y = (y - means[number[index]]).astype(np.float32)
        y[:, np.abs(y).max(axis=0) < 1e-6] = 0.0  # rounding of a mean is no variation
        measured = np.concatenate([section.measured for section in stack.sections])
        spacing = min(Surroundings.of(s, v[:, :0]).spacing() for s, v in zip(stack.sections, values, strict=True))
        extent = float(np.ptp(um, axis=0).max())
        seen = replace(places.take(index), noise=noise if depth else None)
        hidden = np.flatnonzero(~measured)
        return cls(places, measured, hidden, seen, y, means.astype(np.float32), floor, spacing, extent)

    def split_by_section(self, spots: Indices, values: Floats, confidence: Floats) -> Iterator[FilledPart]:
        """Yield what was found of some spots, (m, g), section by section."""
        section = self.places.section
        for number in np.unique(section[spots]):
            own = section[spots] == number
            start = int(np.searchsorted(section, number))
            yield FilledPart(int(number), spots[own] - start, Filled(values[own], confidence[own]))


class Kriging(PartImputer):
    """Gaussian-process regression of every gene over all sections of a stack.

    The kernel is :class:`~stzoo.core.gp.kernels.Kernel`; section means are removed, and where there
    are several sections (or image features) the correlation between sections (the weight and length scale of the
    features) is the one of greatest likelihood summed over genes and components. Zero-count spots teach nothing.

    Big sections: hyper-parameters come from the composite likelihood of at most four blocks of 1,000 measured spots,
    and beyond 1,000 measured spots every gene takes the best of the three length scales that together serve all best.
    Up to ``exact`` measured spots the prediction is exact; beyond, every block of hidden spots is predicted from its
    ``neighbourhood`` nearest measured spots, with one length scale for all genes (one eigendecomposition a block),
    so time and memory grow linearly with the number of spots.

    Confidence is the expected share of the variance of a measured value that the prediction explains: the share of
    the signal's prior variance removed by the measured spots (1 - posterior / prior variance) times the share of
    signal in the gene's variance (1 / (1 + nugget ratio)). With coupling it is the mean of that and of the same
    quantity summed over components. It is 0 for a gene that does not vary, 1 where measured.
    """

    name = "kriging"
    config_class = KrigingConfig
    config: KrigingConfig

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill hidden spots, a few hundred at a time (see :class:`Imputer`)."""
        encoder = self._encoder if self.config.encoder else None
        inputs = KrigingInputs.of(stack, values, encoder=encoder, depth=self.config.depth, ranks=ranks)
        if not len(inputs.hidden):
            return
        weights = None if inputs.seen.noise is None else 1 / inputs.seen.noise
        components = Components.of(inputs.y, self.config.components, seed=self.seed, weights=weights)
        columns = np.hstack([inputs.y, components.scores])
        exact = self.config.exact
        choice = choose_kernels(
            inputs.seen, columns, spacing=inputs.spacing, extent=inputs.extent, exact=exact, ranks=ranks
        )
        places = inputs.places.um[inputs.hidden], inputs.seen.um
        blocks = list(blocks_around(*places, exact=exact, neighbourhood=self.config.neighbourhood, ranks=ranks))
        done, total = 0, sum(len(part) for part, _ in blocks)
        for part, seen in blocks:
            known = list(posteriors(choice, inputs.seen.take(seen), columns[seen]))
            for rows in pieces(len(part)):
                hidden = inputs.hidden[part[rows]]
                yield from inputs.split_by_section(hidden, *_predict(inputs, components, choice, known, hidden))
                done += len(hidden)
                if progress:
                    progress(done, total)

    @cached_property
    def _encoder(self) -> Encoder:
        """The encoder of the options; what it embedded is kept, so that filling a section again is quick."""
        return cache_embeddings(encoder_of(self.config.encoder, device=self.device, seed=self.seed))


def _predict(
    inputs: KrigingInputs,
    components: Components,
    choice: Choice,
    known: Sequence[tuple[Indices, Posterior]],
    hidden: Indices,
) -> tuple[Floats, Floats]:
    """Return predictions and confidence, float32 (m, g) each, of some hidden spots."""
    at, genes = inputs.places.take(hidden), inputs.y.shape[1]
    mean = np.empty((len(at), genes + components.scores.shape[1]), dtype=np.float32)
    explained = np.empty_like(mean)
    for part, posterior in known:
        mean[:, part], explained[:, part] = posterior.at(at)
    explained *= choice.reliability().astype(np.float32)
    values: Floats = mean[:, :genes]
    trust: Floats = explained[:, :genes] * (components.variance > 0)
    if mean.shape[1] > genes:
        values = np.asarray((values + mean[:, genes:] @ components.loadings) / 2, dtype=np.float32)
        trust = np.asarray((trust + explained[:, genes:] @ components.shares()) / 2, dtype=np.float32)
    values = np.maximum(values + inputs.means[at.section], inputs.floor)
    return values, np.clip(trust, 0.0, 1.0).astype(np.float32)


def _mean(y: Floats, noise: Doubles) -> Doubles:
    """Return the mean of each gene, float64 (g,), spots weighted by the inverse of their noise."""
    return np.asarray(np.average(y.astype(np.float64), axis=0, weights=1 / noise))
