"""What CoMTIP trains on: the genes, and the measured spots of the sections. Memory is that of counts and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from stzoo.core.arrays import Points
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError
from stzoo.core.runtime.progress import progress_bar
from stzoo.core.slides.tile_cache import Spots, cached_rows
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.expression import components, log_normalised, stacked
from stzoo.plugins.comtip.inputs import CachedViews, kept_kind, section_moments
from torch import Tensor


def training_genes(sections: Sequence[Section], min_detected: float, most: int) -> list[str]:
    """Return the genes that all sections have and that are detected in enough of the measured spots.

    Of those, the ``most`` of highest mean expression, in the order of the first section.

    Raises
    ------
    DataError
        No gene is left.
    """
    shared = set.intersection(*(set(section.genes) for section in sections))
    genes = [gene for gene in sections[0].genes if gene in shared]
    seen, total, spots = np.zeros(len(genes)), np.zeros(len(genes)), 0
    for section in sections:
        measured = np.flatnonzero(section.measured)
        for values in log_normalised(section, genes, measured):
            seen += (values > 0).sum(axis=0)
            total += values.sum(axis=0, dtype=np.float64)
        spots += len(measured)
    kept = np.flatnonzero(seen >= min_detected * spots)
    if not kept.size:
        raise DataError(
            f"no gene is detected in {min_detected:.0%} of the {spots} training spots", todo="lower train.min_detected"
        )
    chosen = np.sort(np.argsort(-total[kept], kind="stable")[:most])
    return [genes[i] for i in kept[chosen]]


class Views(Protocol):
    """Inputs of the image tower: ``inputs[view, spots]``, and ``len(inputs)`` views."""

    def __len__(self) -> int:
        """Return the number of views."""

    def __getitem__(self, index: tuple[int, Tensor], /) -> Tensor:
        """Return the inputs (b, ...) of spots, int64 (b,), in one view."""


class Values(Protocol):
    """Expression: ``values[spots]`` is float32 (b, g), log1p of counts per 10,000; ``len(values)`` spots."""

    def __len__(self) -> int:
        """Return the number of spots."""

    def __getitem__(self, spots: Tensor, /) -> Tensor:
        """Return the values (b, g) of spots, int64 (b,)."""


@dataclass
class TrainingData:
    """All measured spots of the training sections.

    Parameters
    ----------
    inputs
        Inputs of the image tower, read when asked for; each view is shifted at random. A tensor (views, n, ...) does.
    values
        Log-normalised expression, sparse until asked for. A tensor (n, g) does.
    profiles
        (n, p), leading principal components of the standardised values; p is 0 where nothing has soft targets.
    um, section
        (n, 2) positions in µm, and int64 (n,) which section a spot is of.
    """

    inputs: Views
    values: Values
    profiles: Tensor
    um: Tensor
    section: Tensor


def gather(
    sections: Sequence[Section],
    genes: Sequence[str],
    config: CoMTIPConfig,
    seed: int,
    *,
    cache: Path,
    progress: bool = False,
) -> TrainingData:
    """Gather the measured spots: expression in memory, what is read of the slides in a cache on disk.

    Parameters
    ----------
    cache
        Folder of caches (:func:`stzoo.core.slides.tile_cache.cache_folder`); what it has of these very spots is used.
    progress
        Draw a bar while slides are read (on a terminal only).

    Raises
    ------
    OutputError
        The cache can not be written.
    """
    usable = [np.flatnonzero(section.measured & (np.nan_to_num(section.depth) > 0)) for section in sections]
    pairs = list(zip(sections, usable, strict=True))
    values = stacked([part for section, spots in pairs for part in log_normalised(section, genes, spots)])
    um = torch.cat([torch.from_numpy(section.um[spots]).float() for section, spots in pairs])
    number_of = torch.repeat_interleave(torch.tensor([len(spots) for spots in usable]))
    profiles = components(values) if config.objective.soft_targets > 0 else torch.zeros(len(values), 0)
    inputs = _views(sections, [section.pixels[spots] for section, spots in pairs], config, seed, cache, progress)
    return TrainingData(inputs, values, profiles, um, number_of)


def _views(
    sections: Sequence[Section], places: Sequence[Points], config: CoMTIPConfig, seed: int, cache: Path, progress: bool
) -> CachedViews:
    """Read every view of every spot into the cache."""
    draw, train = np.random.default_rng(seed), config.train
    wanted = []
    for section, own in zip(sections, places, strict=True):
        slide = section.require_slide()
        reach = train.shift_um / float(slide.mpp or 1.0)
        shifted = [own + draw.uniform(-reach, reach, own.shape) for _ in range(train.views - 1)]
        wanted.append(Spots(section.name, slide, np.concatenate([own, *shifted])))
    about = {"views": train.views, "shift_um": train.shift_um, "seed": seed}
    with progress_bar("read slides", show=progress) as bar:
        rows = cached_rows(cache, wanted, kept_kind(config.vision), about=about, progress=bar)
    moments = [section_moments(section, config.vision, 32) for section in sections]
    return CachedViews(rows, train.views, [len(own) for own in places], moments)
