"""Rigid alignment of two sections by the outline of their tissue."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

import numpy as np
from stzoo import Aligner, Progress, Section, Transform
from stzoo.core.data.tissue import in_tissue, overview, slide_tissue, spot_tissue
from stzoo.plugins.baselines.aligners._outline_search import Placement, SearchConfig, Shape, is_apart, search

MOST_POINTS = 4000
AMBIGUOUS = 1.3
"""Another orientation whose outlines lie at most this many times as far apart (and 1 µm) is reported."""


class Use(Enum):
    """What stands for the tissue."""

    auto = "auto"
    image = "image"
    spots = "spots"


@dataclass
class RigidConfig(SearchConfig):
    """Options of :class:`Rigid`: those of the search, and one more.

    Parameters
    ----------
    use
        What the tissue is outlined by: ``image`` (a section without slide is an error), ``spots``, or ``auto``:
        the image where both sections have one, else the spots.
    """

    use: Use = Use.auto


class Rigid(Aligner):
    """Finds the turn, the shift and, if allowed, the mirroring that lay one tissue outline upon another.

    The whole circle is searched. It uses no gene and no colour, so it can not tell apart the positions of a symmetric
    piece of tissue: where another orientation fits nearly as well, it says so in a warning.
    """

    name = "rigid"
    config_class = RigidConfig
    config: RigidConfig

    def align(self, moving: Section, fixed: Section, *, progress: Progress | None = None) -> Transform:
        """Return the transform from micrometres of ``moving`` to micrometres of ``fixed``.

        Raises
        ------
        DataError
            A section has fewer than 10 spots (or no tissue on its slide, or none where ``use=image``).
        UnitsError
            A section has no µm/px.
        """
        self.config.check(self.name)
        both = moving.slide is not None and fixed.slide is not None
        images = self.config.use is Use.image or (both and self.config.use is Use.auto)
        source, target = (self._shape(section, images) for section in (moving, fixed))
        found = search(source, target, self.config, progress).fine
        _warn_if_ambiguous(found, moving.name, fixed.name)
        return Transform(found[0].matrix)

    def _shape(self, section: Section, images: bool) -> Shape:
        """Return the points that stand for a section's tissue."""
        return outline_image(section, self.config.mask_um) if images else _outline_spots(section, self.seed)


def outline_image(section: Section, mask_um: float) -> Shape:
    """Return the outline of the tissue on a section's slide."""
    tissue = slide_tissue(section, overview(section, mask_um))
    outline = tissue.outline()
    return Shape(outline, outline, tissue.points().mean(axis=0))


def _outline_spots(section: Section, seed: int) -> Shape:
    """Return the shape that the spots of a section cover."""
    outline = spot_tissue(section).outline()
    points = section.um[in_tissue(section)]
    few = len(points) <= MOST_POINTS
    used = points if few else np.random.default_rng(seed).choice(points, MOST_POINTS, replace=False)
    return Shape(outline, used, points.mean(axis=0))


def _warn_if_ambiguous(found: list[Placement], moving: str, fixed: str) -> None:
    """Say so when another orientation of a section fits nearly as well as the best; ``found`` is sorted."""
    best = found[0]
    for other in found[1:]:
        if is_apart(other.matrix, best.matrix) and other.score < AMBIGUOUS * best.score + 1:
            logging.getLogger(__name__).warning(
                "rigid: another orientation of '%s' on '%s' fits nearly as well (%.0f against %.0f µm): check the "
                "result; where the section can not be mirrored, set flips=false",
                moving,
                fixed,
                other.score,
                best.score,
            )
            return
