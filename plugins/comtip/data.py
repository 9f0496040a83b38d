"""What CoMTIP trains on: genes, measured spots, and what is drawn at random. Memory is that of the counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, vstack
from stzoo import DataError, Section
from stzoo.core.arrays import Indices, Points
from stzoo.core.data.section import PER_10K
from stzoo.core.runtime.progress import progress_bar
from stzoo.core.slides import Spots, cache_rows
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem
from stzoo.plugins.comtip.image_tower import N_STATISTICS
from stzoo.plugins.comtip.inputs import CachedViews, choose_cache_kind, measure_moments, turn
from torch import Tensor

COMPONENTS = 20
"""Principal components of a profile."""
EXACT_VALUES = 1 << 22
"""Spots times genes up to which the components come from a singular value decomposition of the dense matrix."""
_ROWS = 4096


class SparseValues:
    """Sparse log-normalised expression of spots, (n, g); ``values[rows]`` returns those rows, dense.

    Parameters
    ----------
    matrix
        CSR, float32 (n, g).
    """

    def __init__(self, matrix: csr_array) -> None:
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Return float32 (len(rows), g)."""
        return torch.from_numpy(self.matrix[rows.numpy()].toarray())


def log_normalise(section: Section, genes: Sequence[str], spots: Indices) -> Iterator[csr_array]:
    """Yield what :meth:`Section.expression` gives for some spots (measured ones), sparse, a few thousand at a time."""
    columns, x, depth = section.gene_index(genes), section.adata.X, section.depth
    scale = np.divide(PER_10K, depth, out=np.zeros_like(depth), where=depth > 0).astype(np.float32)
    for start in range(0, len(spots), _ROWS):
        some = spots[start : start + _ROWS]
        part = csr_array(x[some][:, columns], dtype=np.float32)
        part.data = np.log1p(part.data * np.repeat(scale[some], np.diff(part.indptr)))
        yield part


def stack_rows(parts: Sequence[csr_array]) -> SparseValues:
    """Stack the rows of all parts."""
    return SparseValues(csr_array(vstack(parts, format="csr")))


def compute_components(values: SparseValues) -> Tensor:
    """Return the leading principal components of the standardised values, float32 (n, p), p at most 20.

    A small matrix is decomposed as it is. A large one stays sparse: Lanczos iterations (scikit-learn's ``arpack``) with
    the mean taken off on the way, so memory is that of the counts. Signs of components are arbitrary.
    """
    n, g = values.shape
    if n * g <= EXACT_VALUES or min(n, g) <= COMPONENTS:
        y = torch.from_numpy(values.matrix.toarray())
        scaled = (y - y.mean(0)) / (y.std(0) + 1e-3)
        u, s, _ = torch.linalg.svd(scaled, full_matrices=False)
        leading: Tensor = (u * s)[:, :COMPONENTS]
        return leading
    from sklearn.decomposition import PCA

    mean = values.matrix.sum(axis=0, dtype=np.float64) / n
    variance = (values.matrix.multiply(values.matrix).sum(axis=0, dtype=np.float64) - n * mean**2) / (n - 1)
    scaled_columns = values.matrix @ diags_array(1 / (np.sqrt(variance.clip(min=0)) + 1e-3)).astype(np.float32)
    found = PCA(COMPONENTS, svd_solver="arpack", random_state=0).fit_transform(scaled_columns)
    return torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))


def choose_training_genes(sections: Sequence[Section], min_detected: float, most: int) -> list[str]:
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
        for values in log_normalise(section, genes, measured):
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


class TileViews(Protocol):
    """Inputs of the image tower: ``inputs[view, spots]``, and ``len(inputs)`` views."""

    def __len__(self) -> int:
        """Return the number of views."""

    def __getitem__(self, index: tuple[int, Tensor], /) -> Tensor:
        """Return the inputs (b, ...) of spots, int64 (b,), in one view."""


class ExpressionRows(Protocol):
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
        Inputs of the image tower, read on demand; views are shifted at random. A tensor (views, n, ...) also works.
    values
        Log-normalised expression, sparse, dense on demand. A tensor (n, g) also works.
    profiles
        (n, p), leading principal components of the standardised values; p is 0 where nothing has soft targets.
    um, section
        (n, 2) positions in µm, and int64 (n,) which section a spot is of.
    """

    inputs: TileViews
    values: ExpressionRows
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
    """Gather the measured spots: expression in memory, inputs of the image tower in a cache on disk.

    Parameters
    ----------
    cache
        Folder of caches (:func:`stzoo.core.slides.tile_cache.cache_folder`); a cache of the same spots is reused.
    progress
        Draw a bar while slides are read (on a terminal only).

    Raises
    ------
    OutputError
        The cache can not be written.
    """
    usable = [np.flatnonzero(section.counted) for section in sections]
    pairs = list(zip(sections, usable, strict=True))
    values = stack_rows([part for section, spots in pairs for part in log_normalise(section, genes, spots)])
    um = torch.cat([torch.from_numpy(section.um[spots]).float() for section, spots in pairs])
    number_of = torch.repeat_interleave(torch.tensor([len(spots) for spots in usable]))
    profiles = compute_components(values) if config.objective.soft_targets > 0 else torch.zeros(len(values), 0)
    inputs = _cache_views(sections, [section.pixels[spots] for section, spots in pairs], config, seed, cache, progress)
    return TrainingData(inputs, values, profiles, um, number_of)


def _cache_views(
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
        rows = cache_rows(cache, wanted, choose_cache_kind(config.vision), about=about, progress=bar)
    moments = [measure_moments(section, config.vision, 32) for section in sections]
    return CachedViews(rows, train.views, [len(own) for own in places], moments)


@dataclass(frozen=True)
class Draws:
    """Random augmentation of b spots.

    Parameters
    ----------
    view, pose
        Which of the cached tiles, and which of the eight rotations and reflections: one for all spots.
    jitter
        (2, b, 1, f), factor and offset of each statistic; None for pixels or without jitter.
    other, share
        (b,), which spot each is mixed with, and its own share, above one half; None without mixing.
    """

    view: int
    pose: int
    jitter: Tensor | None
    other: Tensor | None
    share: Tensor | None

    @classmethod
    def of(cls, data: TrainingData, count: int, config: CoMTIPConfig, generator: torch.Generator) -> Draws:
        """Draw for ``count`` spots."""
        train = config.train
        view = int(torch.randint(len(data.inputs), (1,), generator=generator))
        pose = int(torch.randint(8, (1,), generator=generator))
        jitter = other = share = None
        if config.vision.stem is Stem.texture and train.jitter > 0:
            shape, spread = (count, 1, N_STATISTICS), train.jitter
            scale = 1 + 0.5 * spread * torch.randn(shape, generator=generator)
            jitter = torch.stack([scale, spread * torch.randn(shape, generator=generator)])
        if train.mixup > 0:
            other = torch.randperm(count, generator=generator)
            drawn = torch._standard_gamma(torch.full((2, count), train.mixup), generator)
            share = drawn[0] / drawn.sum(0)
            share = torch.maximum(share, 1 - share)  # each spot stays mostly itself, where it is
        return cls(view, pose, jitter, other, share)

    def inputs(self, data: TrainingData, chosen: Tensor, mine: slice) -> Tensor:
        """Return the augmented inputs of a slice of the ``chosen`` (b,) spots; only these are read."""
        here = torch.arange(len(chosen))[mine]
        own = self._fetch(data, chosen, here)
        if self.other is None:
            return own
        return self._mix(own, self._fetch(data, chosen, self.other[here]), here)

    def values(self, values: Tensor) -> Tensor:
        """Return the values (b, g) of all spots, mixed like their inputs."""
        return values if self.other is None else self._mix(values, values[self.other], torch.arange(len(values)))

    def _fetch(self, data: TrainingData, chosen: Tensor, rows: Tensor) -> Tensor:
        found = turn(data.inputs[self.view, chosen[rows]], self.pose // 2, self.pose % 2 == 1)
        return found if self.jitter is None else found * self.jitter[0, rows] + self.jitter[1, rows]

    def _mix(self, own: Tensor, others: Tensor, rows: Tensor) -> Tensor:
        assert self.share is not None
        share = self.share[rows].view(-1, *[1] * (own.ndim - 1))
        return share * own + (1 - share) * others
