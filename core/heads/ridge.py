"""The ridge head: a linear map from the standardised embedding, its penalty chosen on training data alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from stzoo.core.arrays import Array, Doubles, Floats, Indices
from stzoo.core.encoder import Prediction
from stzoo.core.heads.base import check_embedding, check_tensors, gene_columns
from stzoo.core.metrics.correlation import per_gene_pcc

ALPHAS = tuple(float(alpha) for alpha in 10.0 ** np.arange(-1.0, 6.01, 0.5))
"""Penalties tried, on embeddings of unit variance."""


@dataclass(frozen=True)
class RidgeHead:
    """A fitted ridge regression.

    Parameters
    ----------
    genes
        Names of the columns.
    weights
        float32 (d, g) for standardised embeddings (its values are exact in fp16, as which it is saved).
    bias
        float32 (g,), mean expression of the training spots.
    mean, scale
        float32 (d,), mean and standard deviation of the training embeddings (1 where it does not vary).
    error
        float32 (g,), standard deviation of the residuals of held-out spots: the uncertainty.
    alpha
        The penalty that was chosen.
    """

    genes: tuple[str, ...]
    weights: Floats
    bias: Floats
    mean: Floats
    scale: Floats
    error: Floats
    alpha: float

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
        """Fit a ridge head (see :class:`~stzoo.core.encoder.Head`); nothing in it is random.

        The penalty is the one with the highest correlation between held-out and predicted expression, averaged over
        genes and folds. A fold is a section, or, where there is only one, a fifth of its spots.

        With ``start``, a head on embeddings of the same width, the penalty draws the weights to those of ``start``
        instead of to 0 (ours): weights come with a head that was fitted on far more spots than a user has, so own
        spots say how it has to change. Genes that ``start`` does not know start at 0. The penalty is then one step of
        :data:`ALPHAS` above the best: held-out spots are close to the others, which flatters a weak pull (chosen on
        her2st C2, C3 and C4).
        """
        x, y = embedding.astype(np.float64), expression.astype(np.float64)
        drawn = start is not None and bool(set(start.genes) & set(genes))
        base = _raw_weights(start, genes) if start is not None and drawn else np.zeros((x.shape[1], y.shape[1]))
        rest = y - x @ base
        scores, squared = _score_penalties(x, y, base, rest, group)
        best = min(int(scores.argmax()) + drawn, len(ALPHAS) - 1)
        mean, scale = _standard(x)
        weights = next(_path((x - mean) / scale, rest - rest.mean(axis=0), (ALPHAS[best],)))
        weights += base * scale[:, None]
        limit = float(np.finfo(np.float16).max)
        return cls(
            genes=genes,
            weights=np.clip(weights, -limit, limit).astype(np.float16).astype(np.float32),
            bias=y.mean(axis=0).astype(np.float32),
            mean=mean.astype(np.float32),
            scale=scale.astype(np.float32),
            error=np.sqrt(squared[best] / len(y)).astype(np.float32),
            alpha=ALPHAS[best],
        )

    def predict(self, embedding: Floats, genes: Sequence[str] | None = None) -> Prediction:
        """Predict expression (see :class:`~stzoo.core.heads.base.Head`); values below 0 become 0."""
        wanted, columns = gene_columns(self.genes, genes)
        x = (check_embedding(embedding, len(self.mean)) - self.mean) / self.scale
        values = np.maximum(x @ self.weights[:, columns] + self.bias[columns], 0.0).astype(np.float32)
        error = np.broadcast_to(self.error[columns], values.shape).copy()
        return Prediction(values, wanted, "ridge", error)

    def tensors(self) -> dict[str, Array]:
        """Return its arrays; the weights as fp16."""
        half = self.weights.astype(np.float16)
        return {"weights": half, "bias": self.bias, "mean": self.mean, "scale": self.scale, "error": self.error}

    def description(self) -> dict[str, Any]:
        """Return its genes and its penalty."""
        return {"genes": list(self.genes), "alpha": self.alpha}

    @classmethod
    def restored(cls, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> Self:
        """Make a head of saved tensors."""
        genes = tuple(description["genes"])
        d, g = len(tensors.get("mean", ())), len(genes)
        shapes = {"weights": (d, g), "bias": (g,), "mean": (d,), "scale": (d,), "error": (g,)}
        check_tensors(tensors, shapes, "ridge")
        return cls(
            genes=genes, alpha=float(description["alpha"]), **{k: v.astype(np.float32) for k, v in tensors.items()}
        )


def _score_penalties(x: Doubles, y: Doubles, base: Doubles, rest: Doubles, group: Indices) -> tuple[Doubles, Doubles]:
    """Return, for each of :data:`ALPHAS`, the summed held-out correlation (a,) and squared residuals (a, g)."""
    scores = np.zeros(len(ALPHAS))
    squared = np.zeros((len(ALPHAS), y.shape[1]))
    for train, test in folds(group):
        mean, scale = _standard(x[train])
        path = _path((x[train] - mean) / scale, rest[train] - rest[train].mean(axis=0))
        held_out = (x[test] - mean) / scale
        for i, weights in enumerate(path):
            guess = x[test] @ base + held_out @ weights
            scores[i] += float(np.nan_to_num(per_gene_pcc(y[test], guess)).mean())
            residual = y[test] - y[test].mean(axis=0) - (guess - guess.mean(axis=0))
            squared[i] += (residual**2).sum(axis=0)
    return scores, squared


def _raw_weights(start: RidgeHead, genes: tuple[str, ...]) -> Doubles:
    """Return the weights of a head for raw embeddings, float64 (d, g); 0 for genes that it does not know."""
    place = {gene: column for column, gene in enumerate(start.genes)}
    weights = np.zeros((len(start.mean), len(genes)), dtype=np.float32)
    known = [column for column, gene in enumerate(genes) if gene in place]
    columns = [place[genes[column]] for column in known]
    weights[:, known] = start.weights[:, columns] / start.scale[:, None]
    return weights.astype(np.float64)


def folds(group: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield (train, test) indices: one section left out at a time; every fifth spot where there is one section."""
    parts = group if len(np.unique(group)) > 1 else np.arange(len(group)) % min(5, len(group))
    for part in np.unique(parts):
        yield np.flatnonzero(parts != part), np.flatnonzero(parts == part)


def _standard(x: Doubles) -> tuple[Doubles, Doubles]:
    mean, scale = x.mean(axis=0), x.std(axis=0)
    return mean, np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-6), scale, 1.0)


def _path(x: Doubles, y: Doubles, alphas: Sequence[float] = ALPHAS) -> Iterator[Doubles]:
    """Yield the weights (d, g) of each penalty, from one eigendecomposition of the smaller Gram matrix."""
    n, d = x.shape
    if n < d:
        values, vectors = np.linalg.eigh(x @ x.T)  # (n,), (n, n)
        left, right = x.T @ vectors, vectors.T @ y
    else:
        values, vectors = np.linalg.eigh(x.T @ x)  # (d,), (d, d)
        left, right = vectors, vectors.T @ (x.T @ y)
    values = np.maximum(values, 0.0)
    for alpha in alphas:
        yield left @ (right / (values + alpha)[:, None])
