"""Inputs of the image tower from a section, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from stzoo import BlockShare, Progress, Section
from stzoo.core.arrays import Points
from stzoo.core.runtime.blocks import batches_of
from stzoo.core.runtime.row_file import RowFile
from stzoo.core.slides import Slide, tile_rows
from stzoo.core.slides.tile_cache import Kind
from stzoo.plugins.comtip.config import Stem, VisionConfig
from stzoo.plugins.comtip.image_tower import N_STATISTICS, VERSION, compute_statistics
from torch import Tensor

_SAMPLE = 512
"""Spots sampled to estimate the moments by which a section is standardised."""

_KEPT: WeakKeyDictionary[Slide, dict[bytes, Tensor]] = WeakKeyDictionary()
_KEPT_BYTES = 64 << 20
"""In-memory cache of patch statistics for each slide, and its limit in bytes."""

_MEAN, _SPREAD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
"""CLIP's normalisation of RGB, for a linear stem."""


def choose_cache_kind(config: VisionConfig) -> Kind:
    """Return what a training cache stores for a spot: patch statistics, or the tile for a linear stem."""
    tiles = tile_rows(config.tile_px, config.mpp)
    if config.stem is not Stem.texture:
        return tiles
    about = {**tiles.about, "kind": "patch-statistics", "version": VERSION, "patch_px": config.patch_px}
    shape = ((config.tile_px // config.patch_px) ** 2, N_STATISTICS)
    return Kind(about, shape, "float32", lambda slide, centres: _read_statistics(slide, centres, config).numpy())


class CachedViews:
    """Inputs of the image tower as ``views[view, spots]``; only those rows are read and preprocessed.

    Parameters
    ----------
    rows
        Rows of :func:`choose_cache_kind`: section after section, and in it view after view.
    views
        Views of a spot.
    counts
        Spots of each section.
    moments
        Of each section, from :func:`measure_moments`.
    """

    def __init__(
        self, rows: RowFile, views: int, counts: Sequence[int], moments: Sequence[tuple[Tensor, Tensor] | None]
    ) -> None:
        self._rows, self._views, sizes = rows, views, torch.tensor(counts)
        self._section = torch.repeat_interleave(sizes)
        self._step = sizes[self._section]  # rows between two views of a spot
        before = sizes.cumsum(0) - sizes
        self._first = torch.arange(int(sizes.sum())) + ((views - 1) * before)[self._section]
        known = [pair for pair in moments if pair is not None]
        self._moments = tuple(torch.stack(part) for part in zip(*known, strict=True))  # (sections, f) each

    def __len__(self) -> int:
        return self._views

    def __getitem__(self, index: tuple[int, Tensor], /) -> Tensor:
        """Return the inputs of spots, int64 (b,): statistics (b, P, f), or pixels (b, 3, h, w)."""
        view, spots = index
        rows = torch.from_numpy(self._rows[(self._first[spots] + view * self._step[spots]).numpy()])
        if not self._moments:
            return _normalise(rows)
        mean, spread = (part[self._section[spots]][:, None] for part in self._moments)  # (b, 1, f)
        return standardise(rows, (mean, spread))


def read_inputs(section: Section, centres: Points, config: VisionConfig) -> Tensor:
    """Return patch statistics (n, P, f), or normalised pixels (n, 3, h, w) for a linear stem.

    Parameters
    ----------
    centres
        float (n, 2), pixels of the full resolution.
    """
    slide = section.require_slide()
    if config.stem is Stem.texture:
        return _recall_statistics(slide, centres, config)
    return _normalise(torch.from_numpy(slide.tiles(centres, size_px=config.tile_px, mpp=config.mpp)))


def _normalise(tiles: Tensor) -> Tensor:
    """Return normalised pixels (n, 3, h, w) of tiles, uint8 (n, h, w, 3)."""
    pixels = tiles.permute(0, 3, 1, 2).contiguous().float()  # turned while they are bytes, then changed in place
    mean, spread = (torch.tensor(colour)[:, None, None] for colour in (_MEAN, _SPREAD))
    return pixels.div_(255).sub_(mean).div_(spread)


def _read_statistics(slide: Slide, centres: Points, config: VisionConfig) -> Tensor:
    return compute_statistics(
        torch.from_numpy(slide.tiles(centres, size_px=config.tile_px, mpp=config.mpp)), config.patch_px
    )


def _recall_statistics(slide: Slide, centres: Points, config: VisionConfig) -> Tensor:
    """Return patch statistics, from the in-memory cache where possible: fitting heads asks for them repeatedly."""
    kept = _KEPT.setdefault(slide, {})
    key = centres.tobytes() + repr((config.tile_px, config.mpp, config.patch_px)).encode()
    if key not in kept:
        found = _read_statistics(slide, centres, config)
        if sum(t.nbytes for t in kept.values()) + found.nbytes > _KEPT_BYTES:
            return found
        kept[key] = found
    return kept[key]


def measure_moments(section: Section, config: VisionConfig, batch_size: int) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation (f,) of the statistics over a section's patches; None for a linear stem.

    Stain and background differ between slides, so statistics are standardised within each section (ours).
    """
    if config.stem is not Stem.texture:
        return None
    chosen = np.unique(np.linspace(0, section.n_spots - 1, min(_SAMPLE, section.n_spots)).astype(int))
    places = section.pixels[chosen]
    parts = [read_inputs(section, places[i : i + batch_size], config) for i in range(0, len(places), batch_size)]
    flat = torch.cat(parts).flatten(0, 1)
    return flat.mean(0), flat.std(0)


def standardise(inputs: Tensor, moments: tuple[Tensor, Tensor] | None) -> Tensor:
    """Standardise statistics by the moments of their section, clipped at six standard deviations."""
    if moments is None:
        return inputs
    mean, spread = moments
    return ((inputs - mean) / (spread + 1e-6)).clamp(-6, 6)


def iterate_batches(
    section: Section, config: VisionConfig, batch_size: int, share: BlockShare, progress: Progress | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and inputs of this rank's share of a section, in order."""
    moments = measure_moments(section, config, batch_size)
    places, spots = section.pixels, batches_of(share.blocks, batch_size)
    for rows in spots:
        yield rows, standardise(read_inputs(section, places[rows], config), moments)
        if progress is not None:
            progress(rows.stop - spots[0].start, spots[-1].stop - spots[0].start)


def turn(inputs: Tensor, turns: int, flip: bool) -> Tensor:
    """Return inputs of the tiles rotated by ``turns`` x 90° and, with ``flip``, reflected; statistics move too."""
    if inputs.ndim == 4:
        out = torch.rot90(inputs, turns, (2, 3))
        return out.flip(3) if flip else out
    b, n, f = inputs.shape
    side = round(n**0.5)
    grid = torch.rot90(inputs.view(b, side, side, f), turns, (1, 2))
    return (grid.flip(2) if flip else grid).reshape(b, n, f)
