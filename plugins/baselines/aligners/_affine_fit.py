"""Six parameters of an affine map that can not degenerate, and their descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from stzoo.core.arrays import Doubles
from stzoo.plugins.baselines.aligners._stain_images import StainLevel, unlikeness

UNIT = 0.05
"""Length of the first step that is tried: 3 degrees, or a twentieth of the tissue's radius."""


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

    start: Doubles
    centre: Doubles
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
class AffineFit:
    """Where a descent ended: the loss, and the values (see :meth:`Frame.matrix`), float64 (6,)."""

    loss: float
    values: Doubles


def descend(
    frame: Frame, values: Doubles, moving: StainLevel, fixed: StainLevel, *, outline_weight: float, steps: int
) -> AffineFit:
    """Lower the loss from some values by L-BFGS, in at most so many steps; it never ends above the start."""

    def loss_and_slope(scaled: Doubles) -> tuple[float, Doubles]:
        at = torch.tensor(scaled * UNIT, requires_grad=True)
        loss = unlikeness(frame.matrix(at), moving, fixed, outline_weight)
        (slope,) = torch.autograd.grad(loss, at)
        return loss.item(), slope.numpy() * UNIT

    solve: Any = minimize  # its stubs do not know that jac=True changes what the function returns
    done = solve(loss_and_slope, values / UNIT, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return AffineFit(float(done.fun), np.asarray(done.x) * UNIT)
