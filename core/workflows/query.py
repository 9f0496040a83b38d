"""Gene-set queries: scores of gene sets from the image alone, compared with measured expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import PER_10K, Section
from stzoo.core.encoder import Encoder
from stzoo.core.errors import UsageError
from stzoo.core.io.write import write
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.model import provenance_of
from stzoo.core.runtime.progress import Progress

PREFIX = "query_"
"""Prefix of the scores in ``obs``: ``obs["query_NAME"]``."""


@dataclass(frozen=True)
class Queried:
    """Scores of gene sets.

    Parameters
    ----------
    section
        The section with ``obs["query_NAME"]`` for each set; ``uns["stzoo"]["query"]`` has the genes and the provenance.
    sets
        Genes of each set, as requested.
    unseen
        Genes of each set that were unseen in training.
    scores, measured
        float32 (n, sets): predicted levels as z-scores, and the mean standardised log expression of the set's measured
        genes (NaN where nothing was measured).
    """

    section: Section
    sets: Mapping[str, Sequence[str]]
    unseen: Mapping[str, Sequence[str]]
    scores: Floats
    measured: Floats

    @property
    def pcc(self) -> Floats:
        """Pearson correlation of score and measured level over spots, float32 (sets,), NaN where unknown."""
        out = np.full(len(self.sets), np.nan, dtype=np.float32)
        for i in range(len(self.sets)):
            rows = np.isfinite(self.measured[:, i])
            if rows.sum() > 1:
                out[i] = per_gene_pcc(self.measured[rows, i : i + 1], self.scores[rows, i : i + 1])[0]
        return out

    def lines(self) -> list[str]:
        """Return a line of text per set: correlation with measured expression, and genes unseen in training."""
        lines = []
        for name, pcc in zip(self.sets, self.pcc, strict=True):
            line = f"{name}: PCC {pcc:.2f}" if np.isfinite(pcc) else f"{name}: not measured, nothing to compare with"
            never = ", ".join(self.unseen[name])
            lines.append(line + (f"; never seen in training: {never}" if never else ""))
        return lines

    def write(self, out: str | Path, plot: str | Path | None = None, *, overwrite: bool = False) -> None:
        """Write the section, and optionally a picture of the sets."""
        if plot is not None:
            from stzoo.core.plotting.maps import plot_genes

            maps = [("from the image", self.scores)]
            if np.isfinite(self.measured).any():
                maps.insert(0, ("measured", self.measured))
            notes = [f"(PCC {v:.2f})" if np.isfinite(v) else "" for v in self.pcc]
            plot_genes(self.section, list(self.sets), maps, plot, notes=notes, overwrite=overwrite)
        write(self.section, out, overwrite=overwrite)


def query(
    encoder: Encoder,
    section: Section,
    sets: Mapping[str, Sequence[str]],
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Queried:
    """Score gene sets at every spot from the image; counts are used for comparison only.

    Parameters
    ----------
    encoder
        A model that supports queries (:meth:`stzoo.Encoder.query`).
    sets
        Name -> gene symbols, any symbols: a gene unseen in training is known from its text description only.

    Raises
    ------
    UsageError
        The model does not support queries, or no set was given.
    """
    if not sets:
        raise UsageError("no set of genes to ask for", todo='write --set "T cells=CD3D,CD3E,CD2"')
    blind = section.without_counts()
    scores = [encoder.query(blind, genes, batch_size=batch_size, progress=progress) for genes in sets.values()]
    table = np.stack(scores, axis=1).astype(np.float32)
    adata = section.adata.copy()
    for name, score in zip(sets, scores, strict=True):
        adata.obs[PREFIX + name.replace(" ", "_").replace("/", "_")] = score
    asked = {name: ",".join(genes) for name, genes in sets.items()}
    adata.uns["stzoo"] = {**dict(adata.uns.get("stzoo", {})), "query": {**provenance_of(encoder), "sets": str(asked)}}
    unseen = {name: encoder.genes_not_trained_on(genes) for name, genes in sets.items()}
    measured = np.stack([_level(section, genes) for genes in sets.values()], axis=1)
    return Queried(replace(section, adata=adata), dict(sets), unseen, table, measured)


def _level(section: Section, genes: Sequence[str]) -> Floats:
    """Return the mean standardised log expression over the set's measured, non-constant genes; NaN where unknown."""
    out = np.full(section.n_spots, np.nan, dtype=np.float32)
    has = set(section.genes)
    known = [gene for gene in genes if gene in has]
    usable = section.counted
    if not known or usable.sum() < 2:
        return out
    values = section.expression(known, target=PER_10K)[usable]
    spread = values.std(axis=0)
    if not (spread > 0).any():
        return out
    values, spread = values[:, spread > 0], spread[spread > 0]
    out[usable] = ((values - values.mean(axis=0)) / spread).mean(axis=1)
    return out
