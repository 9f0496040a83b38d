"""The paper's variant on a section: a CDCIN for each gene, or one that genes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from stzoo import Filled, Progress, Ranks, Section
from stzoo.core.arrays import Floats, Mask
from stzoo.core.metrics import per_gene_pcc
from stzoo.plugins.s2s_st.cdcin.fitting import fill_cdcin, fit_cdcin
from stzoo.plugins.s2s_st.cdcin.network import CDCIN
from stzoo.plugins.s2s_st.config import CDCINConfig, Mode, S2SSTConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.lattice import Lattice, find_stride_and_phase

SHARED = 32
"""Genes that a shared network fills at a time."""


def fill_cascade(
    section: Section,
    values: Floats,
    config: S2SSTConfig,
    images: NaturalImages | None,
    seed: int,
    device: str,
    ranks: Ranks,
    progress: Progress | None,
) -> Iterator[tuple[slice, Filled]]:
    """Train and fill, a few genes at a time.

    Parameters
    ----------
    section, values
        The section, and log-normalised expression, float32 (n, g), NaN where hidden.
    config
        ``mode``, and the options of ``cdcin``.
    ranks
        The processes that share the genes; a network that genes share is trained by the first one.

    Yields
    ------
    Genes, and values and confidence of all spots. Confidence (ours, the paper has none) is the squared correlation,
    gene by gene, with which the network predicts measured places from the sparser level, the same for all hidden spots.
    """
    lattice = Lattice.of(section)
    maps, measured = lattice.to_grid(values), lattice.mask(section.measured)
    options = config.cdcin
    if lattice.kind == "hexagonal":  # turning a halved array would change who is whose neighbour
        options = replace(options, train=replace(options.train, augment=False))

    def train(some: Floats, told: Progress | None) -> CDCIN:
        return fit_cdcin(
            some, lattice.occupied, measured, options, images=images, seed=seed, device=device, progress=told
        )

    jobs = list(_split_genes(len(maps), config.mode))
    own = ranks.my_jobs(len(jobs))
    network: CDCIN | None = None
    if config.mode is not Mode.per_gene:
        network = ranks.map_jobs(1, lambda _: train(maps, _share_progress(progress, 0, max(len(own), 1))))[0]
    for number, part in enumerate(jobs[own.start : own.stop]):
        fitted = network or train(maps[part], _share_progress(progress, number, len(own)))
        filled = lattice.from_grid(fill_cdcin(fitted, maps[part], lattice.occupied, measured, options))
        sure = _score_sparser(fitted, maps[part], lattice.occupied, measured, options)
        yield part, Filled(filled, np.broadcast_to(sure, filled.shape))
        if progress:
            progress(number + 1, len(own))


def _split_genes(genes: int, mode: Mode) -> Iterator[slice]:
    size = 1 if mode is Mode.per_gene else SHARED
    for first in range(0, genes, size):
        yield slice(first, min(first + size, genes))


def _score_sparser(network: CDCIN, maps: Floats, occupied: Mask, measured: Mask, options: CDCINConfig) -> Floats:
    """Return the squared correlation (0 where it is negative or undefined) at measured places that were dropped."""
    known, kept = _thin(maps, occupied, measured)
    there = np.isfinite(known[0])
    asked = there & ~kept
    if asked.sum() < 3 or not kept.any():
        return np.zeros(len(maps), dtype=np.float32)
    guessed = fill_cdcin(network, np.where(kept, known, np.nan), there, kept, options)
    truth = known[:, asked].T
    found = np.nan_to_num(per_gene_pcc(truth, guessed[:, asked].T))
    return np.asarray(np.clip(found, 0, 1) ** 2, dtype=np.float32)


def _thin(maps: Floats, occupied: Mask, measured: Mask) -> tuple[Floats, Mask]:
    """Return the measured places as maps of their own, (g, h', w'), and which of them are kept at the level below.

    Maps are NaN where nothing was measured. A phase of a stride thins out by the same stride; scattered places are
    halved, every second one in reading order.
    """
    known = np.where(measured, maps, np.nan)
    found = find_stride_and_phase(occupied, measured)
    kept = np.zeros_like(measured)
    if found is None:
        rows, cols = np.nonzero(measured)
        kept[rows[::2], cols[::2]] = True
        return known, kept
    stride, (a, b) = found
    known = np.ascontiguousarray(known[:, a::stride, b::stride])
    kept = np.zeros(known.shape[1:], dtype=bool)
    kept[::stride, ::stride] = np.isfinite(known[0, ::stride, ::stride])
    return known, kept


def _share_progress(progress: Progress | None, number: int, jobs: int) -> Progress | None:
    if progress is None:
        return None
    whole = progress
    return lambda done, total: whole(round(1000 * (number + 0.9 * done / total)), 1000 * jobs)
