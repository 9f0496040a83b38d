"""S2S-ST: fills a sparsely measured section from that section alone plus natural images (arXiv 2507.16886)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import FilledPart, PartImputer, Progress, Ranks, Section, Stack, WeightsError, restore_module
from stzoo.core.arrays import Floats
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.runtime.resources import package_folder
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.weights.repository import empty, open_repository
from stzoo.plugins.s2s_st.cdcin.variant import fill_cascade
from stzoo.plugins.s2s_st.config import RefinerStart, S2SSTConfig, Variant
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.refined.refiner import Refiner
from stzoo.plugins.s2s_st.refined.variant import FittedSection, fill_refined, fit_refined

if TYPE_CHECKING:
    from torch import Tensor

PACKAGED = "package://stzoo.plugins.s2s_st/weights/s2s-st-natural"


class S2SST(PartImputer):
    """Sparser-to-sparse imputation of single sections (a re-implementation; the authors published no weights).

    Every section of a stack is filled by itself. Its spots have to lie on a lattice: array coordinates (Visium's
    hexagonal array too), square bins, or positions on a regular grid.

    ``variant=refined`` (the default, ours) kriges with depth-dependent noise, over position and over a spot's tissue
    context, stacks the maps by their cross-validated error on measured spots (on which the confidence is calibrated
    too), and adds the correction of a network trained on photographs and, self-supervised, on dropped measured spots
    of the section.
    ``variant=cdcin`` is the paper's network and training (specification, section 2), for one gene
    at a time or (ours) shared; its confidence is the squared correlation at the sparser level.

    Attributes
    ----------
    trained_on
        Provenance of the refiner's weights.
    """

    name = "s2s-st"
    config_class = S2SSTConfig
    config: S2SSTConfig

    def __init__(self, config: Any = None, *, device: str = "cpu", seed: int = 0) -> None:
        super().__init__(config, device=device, seed=seed)
        self.trained_on: dict[str, Any] = {}
        self._refiner: Refiner | None = None

    @property
    def uses_attention(self) -> bool:
        """Whether the variant is the paper's: the refined one has no transformer."""
        return self.config.variant is Variant.cdcin

    @property
    def refiner(self) -> Refiner:
        """The network of the refined variant: restored weights, the packaged ones, or untrained.

        Untrained it corrects nothing until it is trained on a section.
        """
        self._load_packaged()
        if self._refiner is None:
            with use_seed(self.seed):
                self._refiner = Refiner(self.config.refiner)
        return self._refiner

    def _load_packaged(self) -> None:
        """Restore the packaged weights, with their provenance, unless others were restored before."""
        if self._refiner is None and self.config.start is RefinerStart.natural:
            with open_repository(package_folder(PACKAGED)) as packaged:
                self.restore(packaged.tensors(), packaged.description, {})

    def state(self) -> dict[str, Tensor]:
        """Return the refiner's weights."""
        return self.refiner.state_dict()

    def description(self) -> dict[str, Any]:
        """Return what the weights were trained on."""
        self._load_packaged()
        return {"trained_on": self.trained_on}

    def restore(self, state: Mapping[str, Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]) -> None:
        """Take over saved weights, strictly (see :class:`Model`)."""
        found = description.get("trained_on", {})
        if not isinstance(found, dict):
            raise WeightsError("'trained_on' of the weights' description is no mapping", todo="pull the weights again")
        with empty():
            refiner = Refiner(self.config.refiner)
        restore_module(refiner, state)
        self._refiner, self.trained_on = refiner.eval(), dict(found)

    def fill_parts(
        self, stack: Stack, values: Sequence[Floats], ranks: Ranks = ALONE, *, progress: Progress | None = None
    ) -> Iterator[FilledPart]:
        """Fill tiles or genes of each section (see :class:`Imputer`); ranks train on different sections."""
        images = NaturalImages.read(Path(self.config.images)) if self.config.images else None
        work = [number for number, section in enumerate(stack.sections) if not section.measured.all()]
        if self.config.variant is Variant.cdcin:
            for done, number in enumerate(work):
                told = _share_progress(progress, done, len(work))
                yield from self._fill_cascade(number, stack.sections[number], values[number], images, ranks, told)
            return

        def learn(job: int) -> FittedSection:
            return fit_refined(
                stack.sections[work[job]],
                values[work[job]],
                self.config.refined,
                self.refiner,
                images=images,
                seed=self.seed,
                device=self.device,
                progress=_share_progress(progress, job, 2 * len(work)),
            )

        for done, fitted in enumerate(ranks.map_jobs(len(work), learn)):
            told = _share_progress(progress, len(work) + done, 2 * len(work))
            for spots, genes, filled in fill_refined(fitted, ranks, progress=told):
                yield FilledPart(work[done], spots, filled, genes)

    def _fill_cascade(
        self,
        number: int,
        section: Section,
        values: Floats,
        images: NaturalImages | None,
        ranks: Ranks,
        progress: Progress | None,
    ) -> Iterator[FilledPart]:
        found = fill_cascade(section, values, self.config, images, self.seed, self.device, ranks, progress)
        for genes, filled in found:
            yield FilledPart(number, slice(None), filled, genes)


def _share_progress(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Return the progress of one of several parts, as thousandths of the whole."""
    if progress is None:
        return None
    whole = progress

    def report(done: int, total: int) -> None:
        whole(round(1000 * (number + done / max(total, 1)) / parts), 1000)

    return report
