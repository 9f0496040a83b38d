"""What aligner ``ot`` compares: leading components of the expression of shared genes, for both sections at once.

Principal components of genes standardised within each section, so that a stain, a batch or a depth that differs between
the two says nothing. Spots are read in blocks: memory grows with the genes kept, not with the genes times the spots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from stzoo import DataError, GeneError, Section
from stzoo.core.arrays import Doubles, Indices
from stzoo.core.data.sampling import informative
from stzoo.core.data.section import PER_10K

FEWEST_SPOTS, FEWEST_GENES = 20, 10
SEEN = 0.03
"""Smallest share of spots, in both sections, in which a gene has to be seen."""
_BLOCK_VALUES = 8_000_000


@dataclass(frozen=True)
class Cloud:
    """Measured spots of one section: where they are, float64 (n, 2) µm, and what they express, float64 (n, k)."""

    points: Doubles
    values: Doubles

    def __len__(self) -> int:
        return len(self.points)


def find_usable(section: Section) -> Indices:
    """Return the spots that are compared: measured, with counts, and under tissue where the section says so.

    Raises
    ------
    DataError
        Too few are left.
    """
    chosen = informative(section)
    if "in_tissue" in section.adata.obs:
        under = np.asarray(section.adata.obs["in_tissue"]).astype(bool)
        chosen = chosen & under if (chosen & under).any() else chosen
    if chosen.sum() < FEWEST_SPOTS:
        raise DataError(
            f"section '{section.name}' has {int(chosen.sum())} measured spots with counts, too few to align by "
            f"expression (at least {FEWEST_SPOTS})",
            where=section.source or None,
            todo="use another aligner, e.g. rigid",
        )
    return np.flatnonzero(chosen)


def make_clouds(moving: Section, fixed: Section, *, genes: int, components: int) -> tuple[Cloud, Cloud]:
    """Return both sections in common components; counts of hidden spots are not used.

    Parameters
    ----------
    genes
        Most genes used: those that vary most, in the section in which they vary less.
    components
        Most components kept.

    Raises
    ------
    GeneError
        The sections share too few genes that are seen in both.
    DataError
        A section has too few measured spots.
    """
    sections, spots = (moving, fixed), (find_usable(moving), find_usable(fixed))
    shared = _find_shared_genes(moving, fixed)
    moments = [_moments(s, at, shared) for s, at in zip(sections, spots, strict=True)]
    seen = (np.minimum(*(m.seen for m in moments)) >= SEEN) & (np.minimum(*(m.variance for m in moments)) > 0)
    _require_genes(int(seen.sum()), moving, fixed)
    variance = np.where(seen, np.minimum(*(m.variance for m in moments)), -1.0)
    kept = np.argsort(-variance, kind="stable")[: min(genes, int(seen.sum()))]
    names = [shared[i] for i in kept]
    scales = [(m.mean[kept], np.sqrt(m.variance[kept])) for m in moments]
    gram = np.zeros((len(kept), len(kept)))
    for section, at, (mean, spread) in zip(sections, spots, scales, strict=True):
        for values in _iterate_blocks(section, at, names):
            standard = (values - mean) / spread
            gram += standard.T @ standard / len(at)  # both sections count alike, whatever their numbers of spots
    axes = eigh(gram, subset_by_index=(max(0, len(kept) - components), len(kept) - 1))[1]
    made = []
    for section, at, (mean, spread) in zip(sections, spots, scales, strict=True):
        parts = [(values - mean) / spread @ axes for values in _iterate_blocks(section, at, names)]
        made.append(Cloud(section.um[at], np.concatenate(parts)))
    return made[0], made[1]


def _find_shared_genes(moving: Section, fixed: Section) -> list[str]:
    there = set(fixed.genes)
    shared = [gene for gene in moving.genes if gene in there]
    _require_genes(len(shared), moving, fixed)
    return shared


def _require_genes(count: int, moving: Section, fixed: Section) -> None:
    if count < FEWEST_GENES:
        raise GeneError(
            f"'{moving.name}' and '{fixed.name}' share {count} genes that are seen in {SEEN:.0%} of the spots of both, "
            f"too few to align by expression (at least {FEWEST_GENES})",
            todo="check that their gene names are of one kind, or use another aligner, e.g. rigid",
        )


@dataclass(frozen=True)
class _Moments:
    """Mean, variance and share of spots above zero of each gene, float64 (g,)."""

    mean: Doubles
    variance: Doubles
    seen: Doubles


def _moments(section: Section, spots: Indices, genes: list[str]) -> _Moments:
    total, square, seen = (np.zeros(len(genes)) for _ in range(3))
    for values in _iterate_blocks(section, spots, genes):
        total += values.sum(axis=0)
        square += (values**2).sum(axis=0)
        seen += (values > 0).sum(axis=0)
    mean = total / len(spots)
    return _Moments(mean, np.maximum(square / len(spots) - mean**2, 0), seen / len(spots))


def _iterate_blocks(section: Section, spots: Indices, genes: list[str]) -> Iterator[Doubles]:
    """Yield log-normalised expression of some spots at a time, float64 (b, g)."""
    rows = max(1, _BLOCK_VALUES // section.n_genes)
    for start in range(0, len(spots), rows):
        part = section.take(spots[start : start + rows])
        yield part.expression(genes, target=PER_10K).astype(np.float64)
