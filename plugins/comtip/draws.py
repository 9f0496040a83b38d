"""What of a batch is drawn at random: for all of its spots, whoever computes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem
from stzoo.plugins.comtip.data import TrainingData
from stzoo.plugins.comtip.inputs import turned
from stzoo.plugins.comtip.texture import N_STATISTICS
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Augmentation of b spots.

    Parameters
    ----------
    view, pose
        Which of the cached tiles, and which of the eight ways to turn and mirror them: one for all spots.
    jitter
        (2, b, 1, f), factor and offset of each statistic; None for pixels or without jitter.
    other, share
        (b,), which spot each is mixed with, and its own share, above one half; None without mixing.
    """

    view: int
    pose: int
    jitter: Tensor | None
    other: Tensor | None
    share: Tensor | None

    @classmethod
    def of(cls, data: TrainingData, count: int, config: CoMTIPConfig, generator: torch.Generator) -> Draws:
        """Draw for ``count`` spots."""
        train = config.train
        view = int(torch.randint(len(data.inputs), (1,), generator=generator))
        pose = int(torch.randint(8, (1,), generator=generator))
        jitter = other = share = None
        if config.vision.stem is Stem.texture and train.jitter > 0:
            shape, spread = (count, 1, N_STATISTICS), train.jitter
            scale = 1 + 0.5 * spread * torch.randn(shape, generator=generator)
            jitter = torch.stack([scale, spread * torch.randn(shape, generator=generator)])
        if train.mixup > 0:
            other = torch.randperm(count, generator=generator)
            drawn = torch._standard_gamma(torch.full((2, count), train.mixup), generator)
            share = drawn[0] / drawn.sum(0)
            share = torch.maximum(share, 1 - share)  # each spot stays mostly itself, where it is
        return cls(view, pose, jitter, other, share)

    def inputs(self, data: TrainingData, chosen: Tensor, mine: slice) -> Tensor:
        """Return the inputs of some of the ``chosen`` (b,) spots: nothing else is fetched."""
        here = torch.arange(len(chosen))[mine]
        own = self._fetched(data, chosen, here)
        if self.other is None:
            return own
        return self._mixed(own, self._fetched(data, chosen, self.other[here]), here)

    def values(self, values: Tensor) -> Tensor:
        """Return the values (b, g) of all spots, mixed as their inputs are."""
        return values if self.other is None else self._mixed(values, values[self.other], torch.arange(len(values)))

    def _fetched(self, data: TrainingData, chosen: Tensor, rows: Tensor) -> Tensor:
        found = turned(data.inputs[self.view, chosen[rows]], self.pose // 2, self.pose % 2 == 1)
        return found if self.jitter is None else found * self.jitter[0, rows] + self.jitter[1, rows]

    def _mixed(self, own: Tensor, others: Tensor, rows: Tensor) -> Tensor:
        assert self.share is not None
        share = self.share[rows].view(-1, *[1] * (own.ndim - 1))
        return share * own + (1 - share) * others
