"""How one level of resolution is made from the next: on a regular sub-lattice, or at scattered places.

Three levels (specification, section 1): h, the full grid; m, what was measured; l, sparser than measured. Training asks
the network for m from l, and for h from m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


def decimate(x: Tensor, stride: int) -> Tensor:
    """Keep one place in stride x stride, the top left: D, ``[::s, ::s]``.

    ``x`` is (..., H, W) of any dtype; the result is a view, (..., ceil(H / s), ceil(W / s)).
    """
    return x[..., ::stride, ::stride]


def fill_nearest(x: Tensor, stride: int) -> Tensor:
    """Copy each value over its stride x stride block, its own place at the top left: U, with ``D(U(x)) = x``.

    ``x`` is (..., h, w) of any dtype; the result is (..., s h, s w).
    """
    return x.repeat_interleave(stride, dim=-2).repeat_interleave(stride, dim=-1)


def place_mask(known: Tensor, stride: int) -> Tensor:
    """Put a mask onto the next level: the mask of data consistency of ``fill_nearest(x, stride)``.

    Parameters
    ----------
    known
        bool (..., h, w), which of the coarser level's values are known.

    Returns
    -------
    bool (..., s h, s w), true only on ``[::s, ::s]`` and only where ``known`` is (specification D2: existing spots
    only); it has as many true places as ``known``.
    """
    fine = known.new_zeros(*known.shape[:-2], known.shape[-2] * stride, known.shape[-1] * stride, dtype=torch.bool)
    fine[..., ::stride, ::stride] = known
    return fine


Known = tuple[Tensor, Tensor]
"""Values, float32 (b, 1, n, n), 0 where not known; and where they are known, bool of that shape."""


class Sampling(Protocol):
    """The relations between the levels of a section."""

    def thin(self, measured: Known, generator: torch.Generator) -> Known:
        """Return level l of level m."""
        ...

    def lift(self, level: Known) -> Known:
        """Return the network's input and mask of data consistency on the grid of the next finer level."""
        ...

    def lower(self, estimate: Tensor) -> Tensor:
        """Return what an estimate of level h says of level m."""
        ...

    def select_scored(self, measured: Tensor, sparser: Tensor) -> Tensor:
        """Return which places of level m are scored when it is asked for from level l, both bool."""
        ...

    def sample_image(self, image: Tensor, measured: Tensor) -> Known:
        """Sample a full image (b, 1, P, P) as the section was: level m of it."""
        ...


@dataclass(frozen=True)
class StridedSampling:
    """One place in s x s is measured: decimation, and nearest fill (the paper's).

    Parameters
    ----------
    stride
        s.
    """

    stride: int

    def thin(self, measured: Known, generator: torch.Generator) -> Known:
        """Decimate."""
        return decimate(measured[0], self.stride), decimate(measured[1], self.stride)

    def lift(self, level: Known) -> Known:
        """Fill by the nearest value to the top left."""
        return fill_nearest(level[0], self.stride), place_mask(level[1], self.stride)

    def lower(self, estimate: Tensor) -> Tensor:
        """Decimate."""
        return decimate(estimate, self.stride)

    def select_scored(self, measured: Tensor, sparser: Tensor) -> Tensor:
        """Score every measured place, as the authors' code does."""
        return measured

    def sample_image(self, image: Tensor, measured: Tensor) -> Known:
        """Decimate; every place of an image is known."""
        return decimate(image, self.stride), torch.ones_like(measured)


@dataclass(frozen=True)
class ScatteredSampling:
    """Measured places form no lattice: zeros elsewhere, a mask channel, all levels of one size (A4, ours).

    Parameters
    ----------
    kept
        Share of the measured places of a window that level l keeps, in (0, 1); at least one is kept and one dropped.
    """

    kept: float

    def thin(self, measured: Known, generator: torch.Generator) -> Known:
        """Drop a random share of the measured places."""
        values, known = measured
        rank = torch.rand(known.shape, generator=generator).masked_fill(~known, 2.0).flatten(1).argsort(1).argsort(1)
        n = known.flatten(1).sum(1, keepdim=True)
        keep = (n * self.kept).round().clamp(min=1).minimum(n - 1)  # (b, 1)
        fewer = (rank < keep).view(known.shape)
        return values * fewer, fewer

    def lift(self, level: Known) -> Known:
        """Change nothing: values are filled with 0 already."""
        return level

    def lower(self, estimate: Tensor) -> Tensor:
        """Change nothing: levels have one size."""
        return estimate

    def select_scored(self, measured: Tensor, sparser: Tensor) -> Tensor:
        """Score the places that were dropped."""
        return measured & ~sparser

    def sample_image(self, image: Tensor, measured: Tensor) -> Known:
        """Show the image at the measured places of a window."""
        return image * measured, measured
