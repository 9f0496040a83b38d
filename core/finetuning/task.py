"""The objective of fine-tuning: predict the genes by a linear head on the embedding, from where the weights stand.

MSE of log expression scaled by each gene's spread, and one minus the correlation of each gene over the batch; beside
them the model's own losses where they are asked for. The head is the ridge head that was fitted before, so training
starts at what tuning the head alone gives; it stays as it is and the network learns to serve it. A head that learns too
overfits at once: hundreds of genes of a hundred spots (chosen on her2st C2, C3 and C4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.arrays import Floats
from stzoo.core.heads.ridge import RidgeHead
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.tunable import Tunable
from torch import Tensor, nn


@dataclass
class Rates:
    """Learning rates, batch size and loss weights of fine-tuning.

    Parameters
    ----------
    steps, batch, warmup
        Optimiser steps, spots of a step, steps of linear warm-up (then cosine decay).
    learning_rate
        AdamW's, without weight decay.
    correlation, own
        Weight of the correlation beside the MSE, and of the model's own losses.
    """

    steps: int = 60
    batch: int = 192
    warmup: int = 10
    learning_rate: float = 3e-4
    correlation: float = 1.0
    own: float = 0.05


class LinearHead(nn.Module):
    """A ridge head that lets gradients through.

    Parameters
    ----------
    head
        Fitted.
    spread
        float32 (g,), standard deviation of each gene over the training spots: the unit of its error.
    """

    mean: Tensor
    scale: Tensor
    spread: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, head: RidgeHead, spread: Floats) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(head.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(head.scale.copy()))
        self.register_buffer("spread", torch.from_numpy(np.maximum(spread, 1e-3)))
        self.register_buffer("weights", torch.from_numpy(head.weights.copy()))  # (d, g)
        self.register_buffer("bias", torch.from_numpy(head.bias.copy()))

    def forward(self, embedding: Tensor) -> Tensor:
        """Return log expression (b, g) of embeddings (b, d)."""
        return (embedding - self.mean) / self.scale @ self.weights + self.bias


class FinetuneTask:
    """One step of fine-tuning (a :class:`stzoo.core.training.TrainingTask`).

    Parameters
    ----------
    tunable
        What the encoder lends; what of it asks for gradients is tuned.
    head
        The ridge head on the starting weights' embeddings.
    expression
        float32 (n, g), log expression of the spots of ``tunable``, in its order.
    rates
        Steps, rates and weights.
    ranks
        The processes that share a batch: each embeds its share, and all form the loss of the whole.
    """

    def __init__(
        self, tunable: Tunable, head: RidgeHead, expression: Floats, rates: Rates, ranks: Ranks = ALONE
    ) -> None:
        self.tunable, self.rates, self.ranks = tunable, rates, ranks
        self.values = torch.from_numpy(expression)
        self.head = LinearHead(head, expression.std(axis=0))
        extra = tunable.extra()
        parts = {"network": tunable.module(), "head": self.head, **({"extra": extra} if extra is not None else {})}
        self.parts = nn.ModuleDict(parts)

    def module(self) -> nn.Module:
        """Return the network, the head, and what only the model's own losses train."""
        return self.parts

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW over what asks for gradients."""
        tuned = [p for p in self.parts.parameters() if p.requires_grad]
        return torch.optim.AdamW(tuned, lr=self.rates.learning_rate, weight_decay=0.0)

    def learning_rate(self, step: int) -> float:
        """Return linear warm-up, then cosine decay."""
        return min(1.0, (step + 1) / self.rates.warmup) * 0.5 * (1 + math.cos(math.pi * step / self.rates.steps))

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted sum and its parts."""
        chosen = self.tunable.draw(self.rates.batch, generator)
        seen = self.tunable.batch(chosen, generator)
        truth, guess = self.values[chosen], self.ranks.gather(self.head(seen.embedding), len(chosen))
        parts = {"mse": (((guess - truth) / self.head.spread) ** 2).mean()}
        parts["correlation"] = self.rates.correlation * (1 - correlation(truth, guess))
        parts |= {name: self.rates.own * loss for name, loss in seen.losses.items()}
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def after_step(self, step: int) -> None:
        """Do nothing: there is no average."""


def correlation(truth: Tensor, guess: Tensor) -> Tensor:
    """Return the mean over genes of the Pearson correlation over a batch, (b, g) each; 0 for a constant gene."""
    a, b = truth - truth.mean(0), guess - guess.mean(0)
    found: Tensor = ((a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-6)).mean()
    return found
