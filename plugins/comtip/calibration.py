"""Calibration of zero-shot prediction: what training spots say of each gene that was seen (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from stzoo.core.arrays import Floats
from torch import Tensor

_NOTHING = torch.tensor([[1.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Calibration:
    """What training spots say of each seen gene (ours).

    Parameters
    ----------
    table
        float32 (g, 4): scale and offset from zero-shot values to expression, mean and standard deviation of expression.
    """

    table: Tensor

    @classmethod
    def none(cls, genes: int) -> Self:
        """Return what leaves the values of so many genes as they are."""
        return cls(_NOTHING.repeat(genes, 1))

    def of(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return scale and offset (g,) of genes by their place; genes never seen (-1) are left as they are."""
        table = self.table.numpy()
        rows = [table[p, :2] if p >= 0 else (1.0, 0.0) for p in places]
        both = np.array(rows, dtype=np.float32).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def levels(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (g,) of genes; for genes never seen the medians of those seen."""
        table = self.table[:, 2:].numpy()
        middle = np.median(table, axis=0)
        both = np.array([table[p] if p >= 0 else middle for p in places], dtype=np.float32).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def without(self, places: Sequence[int]) -> Calibration:
        """Return it with nothing known of some genes."""
        table = self.table.clone()
        table[places] = _NOTHING
        return Calibration(table)

    def fitted(self, places: Sequence[int], predicted: Floats, truth: Floats) -> Calibration:
        """Return it with some genes calibrated anew on training spots (see :func:`calibration`)."""
        table = self.table.clone()
        table[places] = calibration(predicted, truth).table
        return Calibration(table)


def calibration(predicted: Floats, truth: Floats) -> Calibration:
    """Return scale and offset by least squares on training spots, (n, g) each; the scale is not negative."""
    x, y = torch.from_numpy(predicted).double(), torch.from_numpy(truth).double()
    dx = x - x.mean(0)
    scale = ((dx * (y - y.mean(0))).sum(0) / (dx**2).sum(0).clamp_min(1e-9)).clamp(0.0, 5.0)
    offset = y.mean(0) - scale * x.mean(0)
    return Calibration(torch.stack([scale, offset, y.mean(0), y.std(0, correction=0)], dim=1).float())
