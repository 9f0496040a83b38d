"""Embed the spots of a section from its image."""

from __future__ import annotations

from pathlib import Path

from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder
from stzoo.core.errors import UsageError
from stzoo.core.io.result_store import open_result_store
from stzoo.core.io.write import bare_frame
from stzoo.core.model import provenance_of
from stzoo.core.runtime.blocks import BlockShare
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks

EMBEDDING = "X_stzoo"
"""Key of the embedding in ``obsm``, for scanpy's ``use_rep``."""


def embed(
    encoder: Encoder,
    section: Section,
    *,
    out: str | Path | None = None,
    batch_size: int = 64,
    overwrite: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> Section:
    """Embed every spot of a section from its image, block by block; counts are not read.

    Parameters
    ----------
    encoder
        A model with weights.
    section
        A section with a slide and µm/px.
    out
        ``NAME.zarr``, written incrementally (memory does not grow with the slide, and processes can share the work), or
        ``NAME.h5ad``; by default nothing is written.
    batch_size
        Spots per forward pass; bounds memory, does not change the result.
    overwrite
        Replace an existing output.
    ranks
        Processes that share the work; all call this with the same arguments.

    Returns
    -------
    The spots with ``obsm["X_stzoo"]``, float32 (n, d), positions and slide, without counts. If written to a zarr store,
    the embedding is only there: read it back.

    Raises
    ------
    UsageError
        The model is not an encoder, or the output has an unsupported suffix.
    LostRankError
        Another rank was lost; nothing is written.
    """
    if not isinstance(encoder, Encoder):
        raise UsageError(f"'{encoder.name}' is no encoder, so it can not embed", todo="see 'stzoo zoo list'")
    with open_result_store(None if out is None else Path(out), ranks, overwrite=overwrite) as store:
        share = BlockShare(section.n_spots, ranks, store.tables)
        blocks = encoder.embed_blocks(section.without_counts(), share, batch_size=batch_size, progress=progress)
        first = next(blocks, None)
        frame = bare_frame(section, [], {"embedded": provenance_of(encoder)})
        if ranks.is_main:
            store.open(frame, {f"obsm/{EMBEDDING}": encoder.embedding_dim})
        ranks.barrier()
        if first is not None:
            for rows, embedding in (first, *blocks):
                store[f"obsm/{EMBEDDING}"][rows] = embedding
        ranks.barrier()
        return store.close(frame) if ranks.is_main else frame
