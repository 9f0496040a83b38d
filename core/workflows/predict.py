"""Predict a section from its image and compare with measured values: an AnnData, a picture, a line per gene.

With a zarr store as output, memory depends on the block of spots, not on the slide or the number of genes, and
processes (``torchrun``) can share the work: each writes the chunks of its own blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import PER_10K, Section
from stzoo.core.encoder import Encoder, Prediction
from stzoo.core.errors import UsageError
from stzoo.core.io.result_store import ResultStore, open_result_store
from stzoo.core.io.write import bare_frame, write
from stzoo.core.metrics.streaming import RunningPCC
from stzoo.core.model import provenance_of
from stzoo.core.runtime.blocks import BlockShare
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks

SHOWN = 6
"""Maximum number of genes in a picture."""

_Block = tuple[slice, Prediction]


@dataclass(frozen=True)
class Predicted:
    """A predicted section.

    Parameters
    ----------
    section
        Spots x predicted genes. In memory: ``layers["predicted"]`` (log1p of counts per 10,000),
        ``layers["uncertainty"]`` if the head gives one, ``X`` (counts) and ``layers["measured"]`` (on the scale of
        ``predicted``; NaN where unknown). If written to a zarr store, the values are only there: read them back.
        ``uns["stzoo"]`` has the provenance.
    head
        Head that was used.
    pcc
        Pearson correlation with measured values over spots, float32 (g,), NaN for genes without measured values.
    """

    section: Section
    head: str
    pcc: Floats

    @property
    def genes(self) -> list[str]:
        """Predicted genes."""
        return self.section.genes

    def lines(self) -> list[str]:
        """Return a line of text per gene for the first genes, and the mean over all."""
        lines = [
            f"{gene}: PCC {value:.2f}" if np.isfinite(value) else f"{gene}: not measured, nothing to compare with"
            for gene, value in list(zip(self.genes, self.pcc, strict=True))[:SHOWN]
        ]
        if len(self.genes) > SHOWN and np.isfinite(self.pcc).any():
            n = int(np.isfinite(self.pcc).sum())
            lines.append(f"mean PCC over {n} measured genes: {np.nanmean(self.pcc):.3f}")
        return lines

    def write(self, out: str | Path, plot: str | Path | None = None, *, overwrite: bool = False) -> None:
        """Write a section held in memory, and optionally a picture of its first genes."""
        if "predicted" not in self.section.adata.layers:
            raise UsageError("the prediction lies in the store that it was written to", todo="read it from there")
        if plot is not None:
            _draw(self, self.section.adata.layers, plot, overwrite=overwrite)
        write(self.section, out, overwrite=overwrite)


def predict(
    encoder: Encoder,
    section: Section,
    genes: Sequence[str] | None = None,
    *,
    head: str | None = None,
    reference: Sequence[Section] = (),
    out: str | Path | None = None,
    plot: str | Path | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> Predicted:
    """Predict a section from its image; its counts, if any, are used for comparison only.

    Parameters
    ----------
    encoder
        A model with weights.
    section
        A section with a slide and µm/px.
    genes
        Genes to predict; by default all that the head knows.
    head
        A head of the encoder; by default its first.
    reference
        Measured sections to fit the head on first (needed for ``retrieval``).
    out
        ``NAME.zarr``, written incrementally, or ``NAME.h5ad``; by default nothing is written. The output is written
        atomically: complete or absent.
    plot
        Path of a picture of the first genes.
    batch_size
        Spots per forward pass; bounds memory, does not change the result.
    overwrite
        Replace existing outputs.
    ranks
        Processes that share the work; all call this with the same arguments.

    Raises
    ------
    UsageError
        The model is not an encoder, the section is its own reference or has no spots, or the output has an
        unsupported suffix.
    LostRankError
        Another rank was lost; nothing is written.
    """
    with open_result_store(None if out is None else Path(out), ranks, overwrite=overwrite) as store:
        _fit_head(encoder, section, genes, head, reference)
        share = BlockShare(section.n_spots, ranks, store.tables)
        blocks = _predict_blocks(encoder, section.without_counts(), genes, head, share, batch_size, progress)
        first = next(blocks, None)
        found = ranks.map_jobs(ranks.world, lambda _: None if first is None else _describe(first[1]))
        known = next((one for one in found if one is not None), None)  # of a small section some ranks have no block
        if known is None:
            raise UsageError(f"section '{section.name}' has no spot to predict", todo="give a section with spots")
        frame = bare_frame(section, known.genes, {"predicted": {**provenance_of(encoder), "head": known.head}})
        if ranks.is_main:
            store.open(frame, dict.fromkeys(known.arrays, len(known.genes)))
        ranks.barrier()
        pcc = _write_blocks(section, known, () if first is None else chain([first], blocks), store)
        pcc = RunningPCC.from_states(ranks.map_jobs(ranks.world, lambda _: pcc.state()))
        if not ranks.is_main:
            return Predicted(frame, known.head, pcc.pcc())
        if plot is not None:
            layers = {name: store[f"layers/{name}"] for name in ("predicted", "measured")}
            _draw(Predicted(frame, known.head, pcc.pcc()), layers, plot, overwrite=overwrite)
        return Predicted(store.close(frame), known.head, pcc.pcc())


@dataclass(frozen=True)
class _Known:
    """What all ranks need to know about the first block."""

    genes: tuple[str, ...]
    head: str
    has_uncertainty: bool

    @property
    def arrays(self) -> list[str]:
        """Names of the arrays of the output."""
        return ["X", "layers/predicted", "layers/measured", *(["layers/uncertainty"] * self.has_uncertainty)]


def _fit_head(
    encoder: Encoder, section: Section, genes: Sequence[str] | None, head: str | None, reference: Sequence[Section]
) -> None:
    """Check the model, and fit its head on the reference sections, if any."""
    if not isinstance(encoder, Encoder):
        raise UsageError(f"'{encoder.name}' is no encoder, so it can not predict", todo="see 'stzoo zoo list'")
    if any(one.source == section.source for one in reference):
        raise UsageError(f"{section.source} can not be its own reference", todo="give another section")
    if reference:
        encoder.fit(reference, genes, head=encoder.check_head(head))


def _predict_blocks(
    encoder: Encoder,
    blind: Section,
    genes: Sequence[str] | None,
    head: str | None,
    share: BlockShare,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[_Block]:
    """Yield the predictions of this process's blocks, also for models that predict whole sections only."""
    own = type(encoder)
    if own.predict is Encoder.predict or own.predict_blocks is not Encoder.predict_blocks:
        yield from encoder.predict_blocks(blind, genes, share, head=head, batch_size=batch_size, progress=progress)
        return
    whole = encoder.predict(blind, genes, head=head, batch_size=batch_size, progress=progress)
    for rows in share.blocks:
        spread = None if whole.uncertainty is None else whole.uncertainty[rows]
        yield rows, replace(whole, values=whole.values[rows], uncertainty=spread)


def _describe(first: Prediction) -> _Known:
    """Return what a prediction says of all others."""
    return _Known(first.genes, first.head, first.uncertainty is not None)


def _write_blocks(section: Section, known: _Known, blocks: Iterable[_Block], store: ResultStore) -> RunningPCC:
    """Write this process's blocks with the measured values, and correlate the two."""
    has = set(section.genes)
    columns = [column for column, gene in enumerate(known.genes) if gene in has]
    shared = [known.genes[column] for column in columns]
    counts_only, pcc = _with_counts_only(section), RunningPCC(len(known.genes), columns)
    for rows, prediction in blocks:
        store["layers/predicted"][rows] = prediction.values
        if known.has_uncertainty:
            store["layers/uncertainty"][rows] = prediction.uncertainty
        if not shared:
            continue  # nothing measured: X and the layer stay NaN
        block = counts_only.take(rows)
        measured, seen = block.expression(shared, target=PER_10K), block.measured
        store["X"][rows] = _in_columns(block.counts(shared), columns, len(known.genes))
        store["layers/measured"][rows] = _in_columns(measured, columns, len(known.genes))
        pcc.add(measured[seen], prediction.values[seen][:, columns])
    return pcc


def _with_counts_only(section: Section) -> Section:
    """Return the section with counts only, so that taking a block is cheap."""
    from anndata import AnnData

    adata = section.adata
    obs = adata.obs[[column for column in ("measured", "total_counts") if column in adata.obs]]
    return replace(section, adata=AnnData(adata.X, obs=obs, var=adata.var))


def _in_columns(values: Floats, columns: Sequence[int], n_genes: int) -> Floats:
    """Place the values in their columns among all genes, NaN elsewhere."""
    if len(columns) == n_genes:
        return values
    out = np.full((len(values), n_genes), np.nan, dtype=np.float32)
    out[:, columns] = values
    return out


def _draw(done: Predicted, layers: Mapping[str, Any], plot: str | Path, *, overwrite: bool) -> None:
    """Draw the slide and maps of the first genes, measured (if any) and predicted."""
    from stzoo.core.plotting.maps import plot_genes

    maps = [("predicted", layers["predicted"][:, :SHOWN])]
    if np.isfinite(done.pcc).any():
        maps.insert(0, ("measured", layers["measured"][:, :SHOWN]))
    notes = [f"(PCC {v:.2f})" if np.isfinite(v) else "" for v in done.pcc[:SHOWN]]
    title = f"{done.section.name}: {done.section.adata.uns['stzoo']['predicted']['model']}, {done.head}"
    plot_genes(done.section, done.genes[:SHOWN], maps, plot, notes=notes, title=title, overwrite=overwrite)
