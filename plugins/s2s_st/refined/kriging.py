"""The input of the refiner (ours): maps kriged by a Gaussian process with the noise of each spot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.arrays import Doubles, Indices
from stzoo.core.gp import Choice, Kernel, Places, choose, likelihoods, predict
from stzoo.core.gp.fitting import few
from stzoo.core.gp.kernels import length_scales
from torch import Tensor

LENGTHS = 8
"""Length scales tried."""


@dataclass(frozen=True)
class KrigedMaps:
    """Kriged maps of some columns over some places.

    Parameters
    ----------
    mean, explained
        float64 (m, c): posterior mean, and explained share of the signal's prior variance.
    reliability
        float64 (c,), share of signal in the variance of a measured value.
    """

    mean: Doubles
    explained: Doubles
    reliability: Doubles

    @property
    def trust(self) -> Doubles:
        """Share of a measured value's variance that the mean explains, float64 (m, c)."""
        return self.explained * self.reliability


def list_kernels(spacing: float, extent: float) -> list[Kernel]:
    """Return the kernels tried over position: exponential, of several length scales (units of the positions)."""
    return [Kernel(length, shape="exponential") for length in length_scales(spacing, extent, LENGTHS)]


def choose_kernels(tried: list[Kernel], blocks: list[tuple[Places, Doubles]], most: int) -> Choice:
    """Return, for each column, the kernel (of at most ``most``) and noise ratio of greatest likelihood over blocks."""
    likelihood = likelihoods(tried, blocks)
    kept = few(likelihood.max(axis=1), most)
    return choose([tried[i] for i in kept], likelihood[kept])


def krige(choice: Choice, seen: Places, y: Doubles, at: Places) -> KrigedMaps:
    """Krige columns ``y``, (n, c), of places ``seen`` at other places."""
    mean, explained = np.zeros((len(at), y.shape[1])), np.zeros((len(at), y.shape[1]))
    for rows, columns, value, share in predict(choice, seen, y, at):
        mean[rows, columns], explained[rows, columns] = value, share
    return KrigedMaps(mean, explained, choice.reliability())


def stack_channels(found: KrigedMaps, given: Doubles, known: Indices, shape: tuple[int, int]) -> Tensor:
    """Stack kriged maps and measured values as input channels of the refiner.

    Parameters
    ----------
    found
        Over all h * w places of a grid, row by row, in units of each column's standard deviation.
    given
        float64 (n, c), the measured values in these units.
    known
        intp (n,), their places.

    Returns
    -------
    float32 (c, 5, h, w), see :data:`~stzoo.plugins.s2s_st.refined.refiner.CHANNELS`.
    """
    cells, columns = found.mean.shape
    planes = np.zeros((columns, 5, cells), dtype=np.float32)
    planes[:, 0], planes[:, 1] = found.mean.T, found.trust.T
    planes[:, 2, known], planes[:, 3, known] = given.T, 1.0
    planes[:, 4] = found.reliability[:, None]
    return torch.from_numpy(planes.reshape(columns, 5, *shape))
