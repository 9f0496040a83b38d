"""The networks of the MLP head as arrays, and how large they are and how they are trained (our reading; see mlp.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stzoo.core.arrays import Floats

NETS, HIDDEN = 5, 64
"""Networks of the ensemble, and their hidden width."""
STEPS = tuple(range(30, 301, 30))
"""Numbers of training steps tried."""
BATCH = 128
DROPOUT = 0.5
"""Share of the inputs, and of the hidden units, that a step leaves out."""
RATE, DECAY = 1e-3, 1e-2
"""Learning rate and weight decay of AdamW."""


@dataclass(frozen=True)
class Nets:
    """Weights of k networks with one hidden layer of width h; all are exact in fp16, as which they are saved.

    Parameters
    ----------
    first, first_bias
        float32 (k, d, h) and (k, h).
    second, second_bias
        float32 (k, h, g) and (k, g).
    """

    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats

    def __call__(self, x: Floats, columns: Sequence[int]) -> tuple[Floats, Floats]:
        """Return mean and variance over the networks, float32 (n, len(columns)) each, for x of float32 (n, d)."""
        mean = np.zeros((len(x), len(columns)), dtype=np.float32)
        squares: Floats = np.zeros_like(mean)
        for i in range(len(self.first)):
            hidden = np.maximum(x @ self.first[i] + self.first_bias[i], 0.0)  # (n, h)
            step = hidden @ self.second[i][:, columns] + self.second_bias[i][columns] - mean
            mean += step / (i + 1)
            squares += step**2 * (i / (i + 1))  # Welford: no difference of large sums
        return mean, np.asarray(squares / len(self.first), dtype=np.float32)
