"""Kriging: a Gaussian process over position, coupled across genes and sections; the strongest simple method we know.

Every gene is kriged by itself, with its own nugget (noise) and length scale by marginal likelihood on the measured
spots. So are the first principal components of the measured profiles, which hold what genes have in common; a gene's
second prediction is put together from them. The result is the mean of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from stzoo.core.embedding import encoder_of
from stzoo.core.errors import ConfigError
from stzoo.core.gp.components import Components
from stzoo.core.gp.fitting import Choice, predict
from stzoo.core.gp.kernels import Indices
from stzoo.core.gp.stacked import EXACT, NEIGHBOURHOOD, blocks_around, choose_kernels
from stzoo.core.interfaces import Encoder, Filled, Imputer, Progress
from stzoo.core.remembering import remembering
from stzoo.core.section import Floats, Stack
from stzoo.plugins.baselines.kriging_data import Scene, ridge


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
    ridge
        Share of a second prediction in the result: a ridge regression on the image embedding alone, over all measured
        spots of all sections. 0.5 is the mean of the two; it needs an encoder. Confidence stays that of kriging.
    depth
        The noise of a spot falls with the root of its depth (:mod:`stzoo.core.gp.noise`), in the process, in means and
        in components, instead of being the same everywhere.
    exact
        Up to this many measured spots (of all sections together) are solved at once; time grows with their cube.
    neighbourhood
        Beyond ``exact``, hidden spots are predicted block by block from this many nearest measured spots.
    """

    components: int = 20
    encoder: str = ""
    ridge: float = 0.0
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
        if not 0 <= self.ridge <= 1 or (self.ridge and not self.encoder):
            raise ConfigError(
                f"ridge is {self.ridge} and encoder is '{self.encoder}'",
                where="config of 'kriging'",
                todo="ridge is a share from 0 to 1, and needs an encoder, e.g. colour-texture",
            )


class Kriging(Imputer):
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
    figure summed over components. It is 0 for a gene that does not vary, 1 where measured.
    """

    name = "kriging"
    config_class = KrigingConfig
    config: KrigingConfig

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        """Fill the hidden spots of all sections together (see :class:`Imputer`)."""
        encoder = self._encoder if self.config.encoder else None
        scene = Scene.of(stack, values, encoder=encoder, depth=self.config.depth)
        filled = np.concatenate(list(values))
        confidence = np.zeros_like(filled)
        if len(scene.hidden):
            weights = None if scene.seen.noise is None else 1 / scene.seen.noise
            components = Components.of(scene.y, self.config.components, seed=self.seed, weights=weights)
            columns = np.hstack([scene.y, components.scores])
            exact = self.config.exact
            choice = choose_kernels(scene.seen, columns, spacing=scene.spacing, extent=scene.extent, exact=exact)
            places = scene.places.um[scene.hidden], scene.seen.um
            blocks = list(blocks_around(*places, exact=exact, neighbourhood=self.config.neighbourhood))
            for done, (part, seen) in enumerate(blocks):
                hidden = scene.hidden[part]
                mean, trust = _predict(scene, components, choice, columns, hidden, seen)
                filled[hidden], confidence[hidden] = mean, trust
                if progress:
                    progress(done + 1, len(blocks))
            if self.config.ridge:
                linear = ridge(scene) + scene.means[scene.places.section[scene.hidden]]
                mixed = self.config.ridge * linear + (1 - self.config.ridge) * filled[scene.hidden]
                filled[scene.hidden] = np.maximum(mixed, scene.floor)
        confidence[scene.measured] = 1.0
        starts = np.cumsum([len(given) for given in values])[:-1]
        return [Filled(*pair) for pair in zip(np.split(filled, starts), np.split(confidence, starts), strict=True)]

    @cached_property
    def _encoder(self) -> Encoder:
        """The encoder of the options; what it embedded is kept, so that filling a section again is quick."""
        return remembering(encoder_of(self.config.encoder, device=self.device, seed=self.seed))


def _predict(
    scene: Scene, components: Components, choice: Choice, columns: Floats, hidden: Indices, seen: Indices
) -> tuple[Floats, Floats]:
    """Return predictions and confidence, float32 (m, g) each, of some hidden spots from some measured ones."""
    at, genes = scene.places.take(hidden), scene.y.shape[1]
    mean = np.empty((len(at), columns.shape[1]), dtype=np.float32)
    explained = np.empty_like(mean)
    for rows, part, value, share in predict(choice, scene.seen.take(seen), columns[seen].astype(np.float64), at):
        mean[rows, part], explained[rows, part] = value, share
    explained *= choice.reliability().astype(np.float32)
    values: Floats = mean[:, :genes]
    trust: Floats = explained[:, :genes] * (components.variance > 0)
    if columns.shape[1] > genes:
        values = np.asarray((values + mean[:, genes:] @ components.loadings) / 2, dtype=np.float32)
        trust = np.asarray((trust + explained[:, genes:] @ components.shares()) / 2, dtype=np.float32)
    values = np.maximum(values + scene.means[at.section], scene.floor)
    return values, np.clip(trust, 0.0, 1.0).astype(np.float32)
