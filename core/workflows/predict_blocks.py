"""Predict or embed a section into a zarr store block by block: memory follows the block, not the slide or the genes.

The store is the one that :func:`stzoo.core.io.write.write` writes. Several processes (``torchrun``) may share the work:
each writes the chunks of its own blocks, the first one makes the store, ends it, and moves it to its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import PER_10K, Section
from stzoo.core.encoder import Encoder, Prediction
from stzoo.core.errors import UsageError
from stzoo.core.io.write import add_array, close_frame, write_frame
from stzoo.core.metrics.running import RunningPCC
from stzoo.core.model import provenance_of
from stzoo.core.runtime.blocks import Share
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.runtime.shared_output import shared_writing
from stzoo.core.workflows.predict import SHOWN, draw, frame, pcc_lines, prepare

EMBEDDING = "X_stzoo"
"""Key of ``obsm`` of an embedding, as scanpy wants it (``use_rep``)."""


@dataclass(frozen=True)
class Streamed:
    """What was predicted into a store.

    Parameters
    ----------
    genes
        The predicted genes.
    pcc
        Pearson correlation with the measured values over spots, float32 (g,), NaN where nothing was measured.
    """

    genes: tuple[str, ...]
    pcc: Floats

    def lines(self) -> list[str]:
        """Return one line for each of the first genes, and the mean."""
        return pcc_lines(self.genes, self.pcc)


def predict_into(
    encoder: Encoder,
    section: Section,
    out: str | Path,
    genes: Sequence[str] | None = None,
    *,
    head: str | None = None,
    reference: Sequence[Section] = (),
    batch_size: int = 64,
    plot: str | Path | None = None,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> Streamed:
    """Predict a section from its image into a zarr store: what :func:`predict_section` gives, never held whole.

    Parameters
    ----------
    out
        ``NAME.zarr``; whole or absent, whatever happens on the way.
    encoder, section, genes, head, reference, batch_size
        As of :func:`stzoo.core.workflows.predict.predict_section`.
    plot
        Picture of the first genes.
    ranks
        The processes that share the work; all call this with the same arguments.

    Returns
    -------
    How well what was measured came out; on ranks other than the first of nothing but the genes.

    Raises
    ------
    UsageError
        As :func:`predict_section`, or the name is not that of a zarr store.
    LostRankError
        Another rank went away; nothing is written then.
    """
    out = zarr_name(out)
    prepare(encoder, section, genes, head, reference)
    with shared_writing(out, ranks, overwrite=overwrite) as path:
        share = Share(section.n_spots, ranks, path.parent / "tables")
        blocks = _blocks(encoder, section.without_counts(), genes, head, share, batch_size, progress)
        first = next(blocks, None)
        done = ranks.same(_begun(encoder, section, first, path) if ranks.is_main else _NOTHING)
        pcc = _filled(section, done, first, blocks, path)
        np.savez(path.parent / f"pcc{ranks.rank}.npz", allow_pickle=False, **pcc.state())
        ranks.barrier()
        if ranks.is_main:
            whole = frame(section, encoder, done.genes, done.head)
            close_frame(whole, path)
            parts = [np.load(path.parent / f"pcc{rank}.npz", allow_pickle=False) for rank in range(ranks.world)]
            pcc = RunningPCC.merged(parts)
            if plot is not None:
                _draw(whole, done, pcc, path, plot, overwrite=overwrite)
    return Streamed(done.genes, pcc.pcc())


def embed_into(
    encoder: Encoder,
    section: Section,
    out: str | Path,
    *,
    batch_size: int = 64,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> None:
    """Embed a section from its image into a zarr store, block by block: ``obsm["X_stzoo"]``, float32 (n, d).

    See :func:`predict_into`; spots, positions and slide are in the store, counts are not.
    """
    out = zarr_name(out)
    if not isinstance(encoder, Encoder):
        raise UsageError(f"'{encoder.name}' is no encoder, so it can not embed", todo="see 'stzoo zoo list'")
    with shared_writing(out, ranks, overwrite=overwrite) as path:
        share = Share(section.n_spots, ranks, path.parent / "tables")
        blocks = encoder.embed_blocks(section.without_counts(), share, batch_size=batch_size, progress=progress)
        first = next(blocks, None)
        whole = frame(section, encoder, [], "")
        whole.adata.uns["stzoo"] = {"embedded": provenance_of(encoder)}
        if ranks.is_main:
            write_frame(whole, path)
            add_array(path, f"obsm/{EMBEDDING}", (section.n_spots, encoder.embedding_dim))
        ranks.barrier()
        array = _opened(path)[f"obsm/{EMBEDDING}"]
        for rows, embedding in _again(first, blocks):
            array[rows] = embedding
        ranks.barrier()
        if ranks.is_main:
            close_frame(whole, path)


@dataclass(frozen=True)
class _Begun:
    """What all ranks have to know of the first block."""

    genes: tuple[str, ...]
    head: str
    has_uncertainty: bool


_NOTHING = _Begun((), "", has_uncertainty=False)


def _begun(encoder: Encoder, section: Section, block: tuple[slice, Prediction] | None, path: Path) -> _Begun:
    """Make the store for predictions like the first one."""
    if block is None:
        raise UsageError(f"section '{section.name}' has no spot to predict", todo="give a section with spots")
    first = block[1]
    begun = _Begun(first.genes, first.head, first.uncertainty is not None)
    write_frame(frame(section, encoder, first.genes, first.head), path)
    for name in ("X", "layers/predicted", "layers/measured", *(["layers/uncertainty"] * begun.has_uncertainty)):
        add_array(path, name, (section.n_spots, len(first.genes)))
    return begun


def _filled(section: Section, done: _Begun, first: Any, blocks: Iterator[Any], path: Path) -> RunningPCC:
    """Write this process's blocks, beside what was measured."""
    store, has = _opened(path), set(section.genes)
    columns = [column for column, gene in enumerate(done.genes) if gene in has]
    known = [done.genes[column] for column in columns]
    bare, pcc = _bare(section), RunningPCC(len(done.genes), columns)
    for rows, prediction in _again(first, blocks):
        store["layers/predicted"][rows] = prediction.values
        if done.has_uncertainty:
            store["layers/uncertainty"][rows] = prediction.uncertainty
        if not known:
            continue  # nothing to lay beside: X and the layer are NaN
        block = bare.take(rows)
        measured, seen = block.expression(known, target=PER_10K), block.measured
        store["X"][rows] = _wide(block.counts(known), columns, len(done.genes))
        store["layers/measured"][rows] = _wide(measured, columns, len(done.genes))
        pcc.add(measured[seen], prediction.values[seen][:, columns])
    return pcc


def _blocks(
    encoder: Encoder,
    blind: Section,
    genes: Sequence[str] | None,
    head: str | None,
    share: Share,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[tuple[slice, Prediction]]:
    """Yield the predictions of this process's blocks, also of a model that knows whole sections only."""
    own = type(encoder)
    if own.predict is Encoder.predict or own.predict_blocks is not Encoder.predict_blocks:
        yield from encoder.predict_blocks(blind, genes, share, head=head, batch_size=batch_size, progress=progress)
        return
    whole = encoder.predict(blind, genes, head=head, batch_size=batch_size, progress=progress)
    for rows in share.blocks:
        spread = None if whole.uncertainty is None else whole.uncertainty[rows]
        yield rows, replace(whole, values=whole.values[rows], uncertainty=spread)


def _draw(
    whole: Section, done: _Begun, pcc: RunningPCC, path: Path, plot: str | Path, *, overwrite: bool = False
) -> None:
    store = _opened(path)
    values, measured = (store[f"layers/{name}"][:, :SHOWN] for name in ("predicted", "measured"))
    known = measured if np.isfinite(pcc.pcc()).any() else None
    draw(whole, Prediction(values, done.genes, done.head), known, pcc.pcc(), plot, overwrite=overwrite)


def _opened(path: Path) -> Any:
    import zarr

    return zarr.open_group(path, mode="r+", use_consolidated=False)


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
        yield from rest


def _bare(section: Section) -> Section:
    """Return the section with nothing but its counts, so that taking a block of it is cheap."""
    from anndata import AnnData

    adata = section.adata
    obs = adata.obs[[column for column in ("measured", "total_counts") if column in adata.obs]]
    return replace(section, adata=AnnData(adata.X, obs=obs, var=adata.var))


def _wide(values: Floats, columns: Sequence[int], n_genes: int) -> Floats:
    """Return the values in their columns among all genes, NaN in the others."""
    if len(columns) == n_genes:
        return values
    out = np.full((len(values), n_genes), np.nan, dtype=np.float32)
    out[:, columns] = values
    return out


def zarr_name(out: str | Path) -> Path:
    """Return the path of a zarr store.

    Raises
    ------
    UsageError
        The name has another suffix.
    """
    if Path(out).suffix != ".zarr":
        raise UsageError(
            f"'{Path(out).name}' is no zarr store, and only that is written by blocks", todo="write NAME.zarr"
        )
    return Path(out)
