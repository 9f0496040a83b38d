"""Heads of fine-tuning: a ridge head fitted as a correction of the one that the weights bring along (ours).

Weights come with a head fitted on far more spots than a user's own, so own spots say how it has to change: the penalty
draws the new head towards the old one instead of towards zero. Genes that the old head does not know start at zero.
"""

from __future__ import annotations

import numpy as np
from stzoo.core.arrays import Floats, Indices
from stzoo.core.heads.ridge import RidgeHead, fit_ridge


def fit_carried(
    start: RidgeHead | None, embedding: Floats, expression: Floats, group: Indices, genes: tuple[str, ...]
) -> RidgeHead:
    """Fit a ridge head that is drawn towards ``start``.

    Parameters
    ----------
    start
        A head on embeddings of the same width; None fits an ordinary one.
    embedding, expression, group, genes
        As in :func:`~stzoo.core.heads.ridge.fit_ridge`, which also says how the penalty is chosen.
    """
    if start is None or not set(start.genes) & set(genes):
        return fit_ridge(embedding, expression, group, genes)
    return fit_ridge(embedding, expression, group, genes, towards=_weights(start, genes))


def _weights(start: RidgeHead, genes: tuple[str, ...]) -> Floats:
    """Return the weights of a head for raw embeddings, float32 (d, g); 0 for genes that it does not know."""
    place = {gene: column for column, gene in enumerate(start.genes)}
    weights = np.zeros((len(start.mean), len(genes)), dtype=np.float32)
    known = [column for column, gene in enumerate(genes) if gene in place]
    columns = [place[genes[column]] for column in known]
    weights[:, known] = start.weights[:, columns] / start.scale[:, None]
    return weights
