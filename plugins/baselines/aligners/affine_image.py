"""Affine alignment of two H&E sections: outlines first, then the intensities of haematoxylin."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from stzoo import Aligner, ConfigError, DataError, Progress, Section, Transform
from stzoo.core.arrays import Doubles
from stzoo.plugins.baselines.aligners._affine_fit import AffineFit, Frame, descend
from stzoo.plugins.baselines.aligners._outline_search import Placements, SearchConfig, is_apart, search
from stzoo.plugins.baselines.aligners._stain_images import StainLevel, prepare_levels, unlikeness
from stzoo.plugins.baselines.aligners.rigid import outline_image

LEVELS_UM = (64.0, 32.0, 16.0)
FIRST_STEPS = 15
"""Steps without stretch that each orientation gets before they are compared."""
TRIED = 8
"""Orientations that are compared by their images."""
ALIKE = 0.05
"""Another orientation whose loss is higher by less than this is reported."""


@dataclass
class AffineImageConfig(SearchConfig):
    """Options of :class:`AffineImage`: those of the search by outline, and of the refinement.

    Parameters
    ----------
    stretch
        Most that lengths may change, as the logarithm of the factor; the area is bound by the same factor. µm/px are
        known, so what is left is how the tissue was stretched on the glass. 0 keeps the map rigid.
    outline_weight
        Weight of the overlap of the tissue beside the correlation of haematoxylin.
    finest_um
        The refinement goes through 64, 32 and 16 µm/px down to this. 16 takes four times as long, and neighbouring
        sections have little in common at that size.
    steps
        Most steps at each level.
    """

    stretch: float = 0.1
    outline_weight: float = 0.5
    finest_um: float = 32.0
    steps: int = 60

    def check(self, name: str) -> None:
        """Refuse options that have no meaning."""
        super().check(name)
        for key, valid, expected in (
            ("stretch", 0 <= self.stretch <= 0.5, "0 to 0.5"),
            ("outline_weight", 0 <= self.outline_weight < np.inf, "0 or more"),
            ("finest_um", self.finest_um in LEVELS_UM, "64, 32 or 16"),
            ("steps", self.steps >= 1, "at least 1"),
        ):
            if not valid:
                raise ConfigError(
                    f"{key} of '{name}' is {getattr(self, key)}, expected {expected}", todo=f"set {key} anew"
                )


class AffineImage(Aligner):
    """Finds the orientation as ``rigid`` does and by correlation of the images, then six parameters by intensity.

    Only the slides are read, never counts. Both are reduced to the density of haematoxylin against their own
    background (so stain and background may differ) and a tissue mask; the specification ``st-dai``, section 2.2, has
    the levels and the loss (our reading: the paper names no tool).
    """

    name = "affine-image"
    config_class = AffineImageConfig
    config: AffineImageConfig

    def align(self, moving: Section, fixed: Section, *, progress: Progress | None = None) -> Transform:
        """Return the transform from micrometres of ``moving`` to micrometres of ``fixed``.

        Raises
        ------
        DataError
            A section has no slide, or no tissue on it.
        UnitsError
            A section has no µm/px.
        """
        self.config.check(self.name)
        for section in (moving, fixed):
            _require_slide(section)
        shapes = [outline_image(section, self.config.mask_um) for section in (moving, fixed)]
        found = search(shapes[0], shapes[1], self.config, progress)
        levels = [um for um in LEVELS_UM if um >= self.config.finest_um]
        pictures = list(zip(prepare_levels(moving, levels), prepare_levels(fixed, levels), strict=True))
        radius = float(np.linalg.norm(shapes[0].outline - shapes[0].centre, axis=1).mean())
        frame, fit = self._choose_best(
            self._list_orientations(found, *pictures[0]), shapes[0].centre, radius, *pictures[0]
        )
        frame = Frame(frame.start, frame.centre, radius, self.config.stretch)
        for a, b in pictures:
            fit = self._descend(frame, fit.values, a, b, self.config.steps)
        return Transform(frame.matrix(torch.tensor(fit.values)).numpy()).inverse()

    def _list_orientations(self, found: Placements, moving: StainLevel, fixed: StainLevel) -> list[Doubles]:
        """Return distinct placements, most alike first, as maps from fixed to moving micrometres."""
        back = [Transform(one.matrix).inverse().matrix for one in [*found.fine, *found.coarse]]
        losses = [float(unlikeness(torch.tensor(m), moving, fixed, self.config.outline_weight)) for m in back]
        kept: list[Doubles] = []
        for index in np.argsort(losses, kind="stable"):
            if not any(not is_apart(back[index], other) for other in kept):
                kept.append(back[index])
        return kept[:TRIED]

    def _choose_best(
        self, starts: list[Doubles], centre: Doubles, radius: float, moving: StainLevel, fixed: StainLevel
    ) -> tuple[Frame, AffineFit]:
        """Refine each orientation a little, without stretch, and return the most alike."""
        tried = []
        for start in starts:
            frame = Frame(start, Transform(start).inverse().apply(centre[None])[0], radius, 0.0)
            tried.append((frame, self._descend(frame, np.zeros(6), moving, fixed, FIRST_STEPS)))
        tried.sort(key=lambda one: one[1].loss)
        _warn_if_ambiguous([(fit.loss, frame.matrix(torch.tensor(fit.values)).numpy()) for frame, fit in tried])
        return tried[0]

    def _descend(self, frame: Frame, values: Doubles, a: StainLevel, b: StainLevel, steps: int) -> AffineFit:
        return descend(frame, values, a, b, outline_weight=self.config.outline_weight, steps=steps)


def _warn_if_ambiguous(tried: list[tuple[float, Doubles]]) -> None:
    """Say so when another orientation looks nearly as alike as the best; ``tried`` is sorted."""
    best, matrix = tried[0]
    for loss, other in tried[1:]:
        if is_apart(matrix, other) and loss < best + ALIKE:
            logging.getLogger(__name__).warning(
                "affine-image: another orientation looks nearly as alike (loss %.2f against %.2f): check the result; "
                "where the section can not be mirrored, set flips=false",
                loss,
                best,
            )
            return


def _require_slide(section: Section) -> None:
    if section.slide is None:
        raise DataError(
            f"section '{section.name}' has no slide image, and affine-image aligns by the images alone",
            where=section.source or None,
            todo="give it an image, or align by spots: --model rigid (outlines) or --model ot (expression)",
        )
