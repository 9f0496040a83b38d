"""Six parameters of an affine map that can not degenerate, and their descent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from stzoo.plugins.baselines.stain_images import Stained, unlikeness

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """What the parameters are relative to.

    Parameters
    ----------
    start
        float64 (2, 3), a map from fixed to moving micrometres.
    centre
        (2,) in fixed micrometres: turns and stretches leave it where it is.
    radius
        Size of the tissue in micrometres, the unit of a shift.
    stretch
        Lengths change at most by a factor of exp(stretch), and so does the area; 0 keeps the map rigid.
    """

    start: Array
    centre: Array
    radius: float
    stretch: float

    def matrix(self, values: torch.Tensor) -> torch.Tensor:
        """Return the map, float64 (2, 3), for 6 values: a turn, a shift (2), and a symmetric stretch exp(S).

        S has a mean (1) and a deviation (2), each kept below half of ``stretch``.
        """
        start, centre = torch.tensor(self.start), torch.tensor(self.centre)
        angle, shift, limit = values[0], values[1:3], max(self.stretch, 1e-9) / 2
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
        size = (values[4:6].square().sum() + 1e-12).sqrt()
        mean, deviation = limit * torch.tanh(values[3] / limit), limit * torch.tanh(size / limit)
        a, b = values[4:6] / size
        lengthen = torch.stack([a, b, b, -a]).reshape(2, 2)
        eye = torch.eye(2, dtype=torch.float64)
        linear = start[:, :2] @ turn @ (mean.exp() * (deviation.cosh() * eye + deviation.sinh() * lengthen))
        middle = start[:, :2] @ centre + start[:, 2] + self.radius * shift
        return torch.cat([linear, (middle - linear @ centre)[:, None]], dim=1)


@dataclass(frozen=True, eq=False)
class Fit:
    """Where a descent ended: the loss, and the values (see :meth:`Frame.matrix`), float64 (6,)."""

    loss: float
    values: torch.Tensor


def descend(
    frame: Frame,
    values: torch.Tensor,
    moving: Stained,
    fixed: Stained,
    *,
    outline_weight: float,
    steps: int,
    rate: float,
) -> Fit:
    """Lower the loss by Adam from some values, with a rate that falls to zero (cosine); never end above the start."""
    best = Fit(np.inf, values.clone())
    values = values.clone().requires_grad_()
    optimiser = torch.optim.Adam([values], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for step in range(steps + 1):
        loss = unlikeness(frame.matrix(values), moving, fixed, outline_weight)
        if loss.item() < best.loss:
            best = Fit(loss.item(), values.detach().clone())
        if step < steps:
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return best
