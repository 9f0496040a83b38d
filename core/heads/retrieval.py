"""The retrieval head: a spot is predicted by the training spots whose embeddings point the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from stzoo.core.arrays import Array, Floats, Indices
from stzoo.core.encoder import Prediction
from stzoo.core.heads.base import check_embedding, check_tensors, gene_columns
from stzoo.core.heads.ridge import folds
from stzoo.core.metrics.correlation import per_gene_pcc

NEIGHBOURS = (10, 25, 50, 100)
"""Numbers of neighbours tried."""
TEMPERATURES = (0.02, 0.05, 0.1, 0.3)
"""Softmax temperatures tried, in units of cosine similarity."""
ROWS = 1024
"""Spots looked up at a time."""


@dataclass(frozen=True)
class RetrievalHead:
    """Training spots to look up.

    Parameters
    ----------
    genes
        Names of the columns.
    mean
        float32 (d,), mean of the training embeddings, taken off before cosines are formed.
    keys, values
        float32 (n, d) unit vectors and float32 (n, g) expression of the training spots (exact in fp16, as which
        they are saved).
    neighbours, temperature
        How many training spots count, and the temperature of their softmax weights.
    """

    genes: tuple[str, ...]
    mean: Floats
    keys: Floats
    values: Floats
    neighbours: int
    temperature: float

    @classmethod
    def fit(
        cls,
        embedding: Floats,
        expression: Floats,
        group: Indices,
        genes: tuple[str, ...],
        *,
        seed: int = 0,
        start: Self | None = None,
    ) -> Self:
        """Keep the training spots (see :class:`~stzoo.core.encoder.Head`); ``seed`` and ``start`` say nothing here.

        Neighbours and temperature are chosen as :class:`~stzoo.core.heads.ridge.RidgeHead` chooses its penalty.
        """
        options = [(k, t) for k in NEIGHBOURS for t in TEMPERATURES]
        scores = np.zeros(len(options))
        for train, test in folds(group):
            centre = embedding[train].mean(axis=0)
            cosine = _units(embedding[test] - centre) @ _units(embedding[train] - centre).T
            for i, (neighbours, temperature) in enumerate(options):
                index, weight = _softmax(cosine, neighbours, temperature)
                table = np.zeros_like(cosine)
                np.put_along_axis(table, index, weight, axis=1)
                scores[i] += float(np.nan_to_num(per_gene_pcc(expression[test], table @ expression[train])).mean())
        neighbours, temperature = options[int(scores.argmax())]
        mean = embedding.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(
            genes=genes,
            mean=mean,
            keys=_round_to_half(_units(embedding - mean)),
            values=_round_to_half(expression),
            neighbours=neighbours,
            temperature=temperature,
        )

    def predict(self, embedding: Floats, genes: Sequence[str] | None = None) -> Prediction:
        """Predict expression (see :class:`~stzoo.core.heads.base.Head`).

        The uncertainty is the weighted standard deviation among the neighbours.
        """
        wanted, columns = gene_columns(self.genes, genes)
        embedding = check_embedding(embedding, len(self.mean))
        table = np.ascontiguousarray(self.values[:, columns])
        mean = np.empty((len(embedding), len(columns)), dtype=np.float32)
        spread = np.empty_like(mean)
        for rows, index, weight in self._near(embedding):
            for i, (spots, share) in enumerate(zip(index, weight, strict=True), start=rows.start):
                near = table[spots]  # (k, g)
                mean[i] = share @ near
                spread[i] = np.sqrt(share @ (near - mean[i]) ** 2)
        return Prediction(mean, wanted, "retrieval", spread)

    def _near(self, embedding: Floats) -> Iterator[tuple[slice, Indices, Floats]]:
        """Yield rows with the indices (m, k) and the weights (m, k) of their neighbours."""
        for start in range(0, len(embedding), ROWS):
            rows = slice(start, min(start + ROWS, len(embedding)))
            yield rows, *_softmax(_units(embedding[rows] - self.mean) @ self.keys.T, self.neighbours, self.temperature)

    def tensors(self) -> dict[str, Array]:
        """Return its arrays; keys and values as fp16."""
        return {"mean": self.mean, "keys": self.keys.astype(np.float16), "values": self.values.astype(np.float16)}

    def description(self) -> dict[str, Any]:
        """Return its genes and settings."""
        return {"genes": list(self.genes), "neighbours": self.neighbours, "temperature": self.temperature}

    @classmethod
    def restored(cls, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> Self:
        """Make a head of saved tensors."""
        genes = tuple(description["genes"])
        d, n = len(tensors.get("mean", ())), len(tensors.get("keys", ()))
        check_tensors(tensors, {"mean": (d,), "keys": (n, d), "values": (n, len(genes))}, "retrieval")
        return cls(
            genes=genes,
            neighbours=int(description["neighbours"]),
            temperature=float(description["temperature"]),
            **{key: value.astype(np.float32) for key, value in tensors.items()},
        )


def _softmax(cosine: Floats, neighbours: int, temperature: float) -> tuple[Indices, Floats]:
    """Return indices and softmax weights, (m, k) each, of the most similar training spots."""
    k = min(neighbours, cosine.shape[1])
    index = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(cosine, index, axis=1)
    weight = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)
    return index, np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float32)


def _units(x: Floats) -> Floats:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norm > 0, norm, 1.0), dtype=np.float32)


def _round_to_half(x: Floats) -> Floats:
    return x.astype(np.float16).astype(np.float32)
