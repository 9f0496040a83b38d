"""What fine-tuning learns from: the genes, and embeddings and expression of the spots of some pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stzoo.core.arrays import Floats, Indices
from stzoo.core.data.genes import top_genes
from stzoo.core.data.subsets import SpotSubset, detected_genes, expression_of
from stzoo.core.encoder import Encoder
from stzoo.core.errors import DataError, GeneError, nearest

DETECTED = 0.1
"""Genes are detected in at least this share of the training spots (as in CoMTIP's own training)."""
MOST = 1000
"""Genes that heads are fitted for, unless they are named: those of highest mean."""


def choose_genes(pieces: Sequence[SpotSubset], most: int = MOST) -> list[str]:
    """Return the genes of highest mean expression that all sections have and enough spots show, highest first.

    Raises
    ------
    DataError
        No gene is left.
    """
    kept = detected_genes(pieces, DETECTED)
    if not kept:
        total = sum(piece.n for piece in pieces)
        raise DataError(f"no gene is detected in {DETECTED:.0%} of the {total} training spots", todo="name --genes")
    return [kept[i] for i in top_genes(expression_of(pieces, kept), most)]


def check_genes(genes: Sequence[str], pieces: Sequence[SpotSubset]) -> list[str]:
    """Return the genes named, highest mean first.

    Raises
    ------
    GeneError
        None is named, or a training section lacks one.
    """
    if not genes:
        raise GeneError("no gene to tune for", todo="name at least one, or leave --genes out")
    for piece in pieces:
        has = set(piece.section.genes)
        missing = [gene for gene in genes if gene not in has]
        if missing:
            raise GeneError(
                f"section '{piece.section.name}' has no gene '{missing[0]}'{nearest(missing[0], has)}"
                + (f" ({len(missing)} genes are missing)" if len(missing) > 1 else ""),
                where=piece.section.source or None,
                todo="leave it out, or leave the section out",
            )
    unique = list(dict.fromkeys(genes))
    return [unique[i] for i in top_genes(expression_of(pieces, unique), len(unique))]


def read_genes(text: str) -> list[str]:
    """Return genes of a comma-separated list, or of a file with one a line.

    Raises
    ------
    GeneError
        The file can not be read.
    """
    path = Path(text)
    if "," in text or not path.is_file():
        return list(dict.fromkeys(gene.strip() for gene in text.split(",") if gene.strip()))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise GeneError(f"the list of genes can not be read: {error}", where=path) from error
    return list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))


def embed_subsets(encoder: Encoder, pieces: Sequence[SpotSubset]) -> Floats:
    """Return the embeddings of the spots of the pieces, in order, float32 (n, d); counts are not read."""
    return np.concatenate([np.asarray(encoder.embed(piece.section), dtype=np.float32)[piece.spots] for piece in pieces])


def groups(pieces: Sequence[SpotSubset]) -> Indices:
    """Return the number of the piece of each spot, intp (n,)."""
    return np.concatenate([np.full(piece.n, number, dtype=np.intp) for number, piece in enumerate(pieces)])
