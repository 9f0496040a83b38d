"""Subsets of spots of sections: detected genes, expression, mean profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.arrays import Floats, Mask
from stzoo.core.data.section import PER_10K, Section


@dataclass(frozen=True, eq=False)
class SpotSubset:
    """A subset of the measured spots of a section.

    Parameters
    ----------
    section, spots
        The section and the mask of its spots, bool (n,), all of them measured.
    patient
        Patient, or empty.
    """

    section: Section
    spots: Mask
    patient: str = ""

    @property
    def n(self) -> int:
        """Number of spots."""
        return int(self.spots.sum())

    def visible(self, genes: Sequence[str]) -> Section:
        """Return the section with all other spots hidden, restricted to some genes (see :meth:`Section.hide`)."""
        return self.section.take_genes(genes).hide(self.spots)


def measured_subsets(sections: Sequence[Section]) -> list[SpotSubset]:
    """Return the measured spots of each section, including those without counts."""
    return [SpotSubset(section, section.measured) for section in sections]


def expression_of(subsets: Sequence[SpotSubset], genes: Sequence[str], target: float = PER_10K) -> Floats:
    """Return log1p of counts per ``target`` of the spots, subset by subset, float32 (n, g)."""
    return np.concatenate([part.section.expression(genes, target=target)[part.spots] for part in subsets])


def mean_profile(subsets: Sequence[SpotSubset], genes: Sequence[str], target: float = PER_10K) -> Floats:
    """Return each gene's mean over the spots, float32 (g,), a simple baseline for predictions."""
    return np.asarray(expression_of(subsets, genes, target).mean(axis=0), dtype=np.float32)


def detected_genes(subsets: Sequence[SpotSubset], share: float) -> list[str]:
    """Return the shared genes detected in at least a share of the spots, in the order of the first section.

    Sparse counts stay sparse.
    """
    shared = set.intersection(*(set(part.section.genes) for part in subsets))
    genes = [gene for gene in subsets[0].section.genes if gene in shared]
    seen, total = np.zeros(len(genes)), sum(part.n for part in subsets)
    for part in subsets:
        x = part.section.adata[part.spots, part.section.gene_index(genes)].X
        seen += np.asarray((x > 0).sum(axis=0)).ravel()
    return [gene for gene, count in zip(genes, seen, strict=True) if count / total >= share]
