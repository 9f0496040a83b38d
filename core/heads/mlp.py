"""The MLP head: a few small networks on the standardised embedding, averaged.

The paper puts a "lightweight MLP" on its image encoder and says no more of it (specification, section 2.5): one hidden
layer, its width, the noise and how long it is trained are our reading, chosen on three sections of one patient (her2st
C2, C3, C4), leaving one out at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Self

import numpy as np
from stzoo.core.arrays import Array, Doubles, Floats, Indices
from stzoo.core.encoder import Prediction
from stzoo.core.heads.base import check_embedding, check_tensors, gene_columns
from stzoo.core.heads.mlp_nets import STEPS, Nets
from stzoo.core.heads.ridge import folds
from stzoo.core.metrics.correlation import per_gene_pcc


@dataclass(frozen=True)
class MLPHead:
    """A fitted ensemble.

    Parameters
    ----------
    genes
        Names of the columns.
    nets
        From the standardised embedding to the standardised expression.
    mean, scale
        float32 (d,), mean and standard deviation of the training embeddings (1 where it does not vary).
    bias, spread
        float32 (g,), mean and standard deviation of the expression of the training spots (1 where it does not vary).
    error
        float32 (g,), standard deviation of the residuals of held-out spots.
    steps
        The number of training steps that was chosen.
    """

    genes: tuple[str, ...]
    nets: Nets
    mean: Floats
    scale: Floats
    bias: Floats
    spread: Floats
    error: Floats
    steps: int

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
        """Fit an MLP head (see :class:`~stzoo.core.encoder.Head`); it starts anew, whatever ``start`` is.

        The loss is the MSE of standardised log expression, so that every gene counts alike. The number of steps is the
        one with the highest correlation between held-out and predicted expression, averaged over genes and folds
        (those of :class:`~stzoo.core.heads.ridge.RidgeHead`); then all spots are trained on as long. First weights,
        and, with the number of a step, its batches and dropout follow from ``seed``: the same seed gives the same head
        on one machine's CPU.

        Raises
        ------
        TrainingError
            A loss that is not finite.
        OutputError
            The folder for temporary files has no room for the training's checkpoint (three times the networks).
        """
        from stzoo.core.heads.mlp_training import train_nets

        x, y = embedding.astype(np.float64), expression.astype(np.float64)
        found = _FoldErrors(y.shape[1])
        for train, test in folds(group):
            (mean, scale), (bias, spread) = _standard(x[train]), _standard(y[train])
            seen = partial(found.add, ((x[test] - mean) / scale).astype(np.float32), y[test], spread)
            train_nets((x[train] - mean) / scale, (y[train] - bias) / spread, STEPS[-1], seed, seen)
        best = int(found.scores.argmax())
        (mean, scale), (bias, spread) = _standard(x), _standard(y)
        return cls(
            genes=genes,
            nets=train_nets((x - mean) / scale, (y - bias) / spread, STEPS[best], seed),
            mean=mean.astype(np.float32),
            scale=scale.astype(np.float32),
            bias=bias.astype(np.float32),
            spread=spread.astype(np.float32),
            error=np.sqrt(found.squared[best] / len(y)).astype(np.float32),
            steps=STEPS[best],
        )

    def predict(self, embedding: Floats, genes: Sequence[str] | None = None) -> Prediction:
        """Predict expression (see :class:`~stzoo.core.heads.base.Head`); values below 0 become 0.

        The uncertainty is the held-out error of the gene and the disagreement of the networks at the spot, as
        independent errors: the root of the sum of their squares.
        """
        wanted, columns = gene_columns(self.genes, genes)
        x = (check_embedding(embedding, len(self.mean)) - self.mean) / self.scale
        level, variance = self.nets(x, columns)
        spread = self.spread[columns]
        values = np.maximum(level * spread + self.bias[columns], 0.0).astype(np.float32)
        error = np.sqrt(self.error[columns] ** 2 + variance * spread**2).astype(np.float32)
        return Prediction(values, wanted, "mlp", error)

    def tensors(self) -> dict[str, Array]:
        """Return its arrays; those of the networks as fp16."""
        half = {field.name: getattr(self.nets, field.name).astype(np.float16) for field in fields(Nets)}
        return {**half, **{name: getattr(self, name) for name in ("mean", "scale", "bias", "spread", "error")}}

    def description(self) -> dict[str, Any]:
        """Return its genes and its number of steps."""
        return {"genes": list(self.genes), "steps": self.steps}

    @classmethod
    def restored(cls, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> Self:
        """Make a head of saved tensors."""
        genes = tuple(description["genes"])
        d, g = len(tensors.get("mean", ())), len(genes)
        k, h = (*np.shape(tensors.get("first_bias", ())), 0, 0)[:2]
        shapes: dict[str, tuple[int | None, ...]] = {
            **{"first": (k, d, h), "first_bias": (k, h), "second": (k, h, g), "second_bias": (k, g)},
            **{"mean": (d,), "scale": (d,), "bias": (g,), "spread": (g,), "error": (g,)},
        }
        check_tensors(tensors, shapes, "mlp")
        values = {key: value.astype(np.float32) for key, value in tensors.items()}
        nets = Nets(**{field.name: values.pop(field.name) for field in fields(Nets)})
        return cls(genes=genes, nets=nets, steps=int(description["steps"]), **values)


class _FoldErrors:
    """How well spots that were held out are predicted after each of :data:`STEPS`, summed over folds."""

    def __init__(self, genes: int) -> None:
        self.scores = np.zeros(len(STEPS))
        self.squared = np.zeros((len(STEPS), genes))

    def add(self, x: Floats, y: Doubles, spread: Doubles, steps: int, nets: Nets) -> None:
        """Add what networks of so many steps say of a fold: x (m, d) standardised, y (m, g), spread (g,) of y."""
        i = STEPS.index(steps)
        guess = nets(x, range(y.shape[1]))[0] * spread
        self.scores[i] += float(np.nan_to_num(per_gene_pcc(y, guess)).mean())
        residual = y - y.mean(axis=0) - (guess - guess.mean(axis=0))
        self.squared[i] += (residual**2).sum(axis=0)


def _standard(x: Doubles) -> tuple[Doubles, Doubles]:
    """Return mean and standard deviation (1 where it is 0 but for rounding) of each column."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    return mean, np.where(scale > 1e-6 * np.maximum(np.abs(mean), 1e-6), scale, 1.0)
