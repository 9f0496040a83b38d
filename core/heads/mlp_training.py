"""How the networks of the MLP head are trained: in the loop of :mod:`stzoo.core.training.loop`, as everything is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.heads.mlp_nets import BATCH, DECAY, DROPOUT, HIDDEN, NETS, RATE, STEPS, Nets
from stzoo.core.training.loop import fit_short
from torch import Tensor, nn
from torch.nn.functional import mse_loss

Seen = Callable[[int, Nets], None]
"""Is shown an ensemble after so many steps."""


class Ensemble(nn.Module):
    """Networks with one hidden layer, all in one product.

    Parameters
    ----------
    width, genes
        Of the inputs, d, and of the outputs, g.
    seed
        Of the first weights; those of the second layer are 0, so training starts at the mean expression.
    """

    def __init__(self, width: int, genes: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(NETS, width, HIDDEN, generator=generator) / max(width, 1) ** 0.5
        self.weights = nn.ParameterList([first, torch.zeros(NETS, HIDDEN, genes)])
        self.biases = nn.ParameterList([torch.zeros(NETS, 1, HIDDEN), torch.zeros(NETS, 1, genes)])

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32 (k, b, g) for a batch of each network, float32 (k, b, d); inputs are dropped at random."""
        (first, second), (hidden_bias, bias) = self.weights, self.biases
        hidden = torch.baddbmm(hidden_bias, _drop_inputs(x, generator), first).relu()  # (k, b, h)
        return torch.baddbmm(bias, _drop_inputs(hidden, generator), second)

    def nets(self) -> Nets:
        """Return the networks as they are now."""
        (first, second), (hidden_bias, bias) = self.weights, self.biases
        return Nets(*(_round_to_half(part) for part in (first, hidden_bias[:, 0], second, bias[:, 0])))


class EnsembleTask:
    """Train an ensemble at a constant rate (a :class:`stzoo.core.training.TrainingTask`).

    Parameters
    ----------
    x, y
        float64 (n, d) and (n, g), both standardised.
    seed
        Of the first weights.
    seen
        Is shown the ensemble at each of :data:`~stzoo.core.heads.mlp_nets.STEPS`.
    """

    def __init__(self, x: Doubles, y: Doubles, seed: int, seen: Seen | None = None) -> None:
        self._inputs, self._targets, self._seen = torch.from_numpy(x).float(), torch.from_numpy(y).float(), seen
        self.ensemble = Ensemble(x.shape[1], y.shape[1], seed)

    def module(self) -> nn.Module:
        """Return the ensemble."""
        return self.ensemble

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW; biases do not decay."""
        decaying = {"params": list(self.ensemble.weights), "weight_decay": DECAY}
        return torch.optim.AdamW(
            [decaying, {"params": list(self.ensemble.biases), "weight_decay": 0.0}], lr=RATE, fused=True
        )

    def learning_rate(self, step: int) -> float:
        """Return 1: there is no schedule."""
        return 1.0

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the sum of the networks' losses: each has the mean of its own batch."""
        n = len(self._inputs)
        rows = torch.randint(n, (NETS, min(BATCH, n)), generator=generator)
        guess = self.ensemble(self._inputs[rows], generator)
        return {"loss": NETS * mse_loss(guess, self._targets[rows])}

    def after_step(self, step: int) -> None:
        """Call ``seen`` with the ensemble at the steps to be scored."""
        if self._seen is not None and step + 1 in STEPS:
            self._seen(step + 1, self.ensemble.nets())


def train_nets(x: Doubles, y: Doubles, steps: int, seed: int, seen: Seen | None = None) -> Nets:
    """Train networks for so many steps (see :class:`EnsembleTask`)."""
    task = EnsembleTask(x, y, seed, seen)
    fit_short(task, steps=steps, seed=seed, clip=None)
    return task.ensemble.nets()


def _drop_inputs(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * (torch.rand(x.shape, generator=generator) >= DROPOUT) / (1 - DROPOUT)


def _round_to_half(x: Tensor) -> Floats:
    """Return fp32 values that fp16 can hold."""
    return x.detach().half().float().numpy()
