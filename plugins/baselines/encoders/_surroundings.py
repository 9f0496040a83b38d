"""Features of patches, beside their means over neighbouring spots, standardised over the section: block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stzoo import BlockShare, Progress, Section
from stzoo.core.arrays import Floats, Pixels, Points
from stzoo.core.data.neighbourhood import Neighbourhood
from stzoo.core.runtime.blocks import batches_of, blocks_of


@dataclass(frozen=True)
class PatchEmbedding:
    """How the patches of a section become an embedding.

    Parameters
    ----------
    features
        Features (b, width) of patches, uint8 (b, tile_px, tile_px, 3).
    width
        Number of the features.
    tile_px, mpp
        Side of a patch in pixels, and its µm/px.
    context_um
        Standard deviations, µm, of the Gaussian means that are added.
    standardise
        Give every feature mean 0 and spread 1 over the section (0 where it does not vary).
    """

    features: Callable[[Pixels], Any]
    width: int
    tile_px: int
    mpp: float
    context_um: Sequence[float]
    standardise: bool

    def blocks(
        self, section: Section, share: BlockShare, batch_size: int, progress: Progress | None
    ) -> Iterator[tuple[slice, Floats]]:
        """Yield the embedding of this process's blocks, float32 (m, width * (1 + number of contexts))."""
        own = self._embed_own(section, share, batch_size, progress)
        table = share.table("surrounded", self.width * (1 + len(self.context_um)), np.float64)
        near = Neighbourhood(section.um)
        for rows in share.blocks:
            table[rows] = np.hstack([own[rows], *near.means(own, rows, self.context_um)])
        share.wait()
        mean, spread = _moments(table) if self.standardise and len(table) else (np.zeros(1), np.ones(1))
        for rows in share.blocks:
            away = table[rows] - mean
            yield rows, np.divide(away, spread, out=np.zeros_like(away), where=spread > 0).astype(np.float32)

    def _embed_own(self, section: Section, share: BlockShare, batch_size: int, progress: Progress | None) -> Points:
        slide, centres = section.require_slide(), section.pixels
        own = share.table("own", self.width, np.float64)
        batches = batches_of(share.blocks, batch_size)
        for rows in batches:
            own[rows] = self.features(slide.tiles(centres[rows], size_px=self.tile_px, mpp=self.mpp))
            if progress:
                progress(rows.stop - batches[0].start, batches[-1].stop - batches[0].start)
        share.wait()
        return own


def _moments(table: Points) -> tuple[Points, Points]:
    """Return mean and standard deviation (d,) of the columns; 0 for one that does not vary but for rounding."""
    blocks = blocks_of(len(table))
    mean = np.sum([table[rows].sum(axis=0) for rows in blocks], axis=0) / len(table)
    squares = np.sum([((table[rows] - mean) ** 2).sum(axis=0) for rows in blocks], axis=0)
    size = np.max([np.abs(table[rows]).max(axis=0) for rows in blocks], axis=0)
    spread = np.sqrt(squares / len(table))
    return mean, np.where(spread > 1e-9 * np.maximum(size, 1e-9), spread, 0.0)
