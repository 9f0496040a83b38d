"""Levels of resolution: decimation D, nearest fill U, and masks of data consistency (specification, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def decimate(x: Tensor, stride: int, phase: tuple[int, int] = (0, 0)) -> Tensor:
    """Keep one place in stride x stride: D, ``[a::s, b::s]``.

    Parameters
    ----------
    x
        (..., H, W), any dtype.
    stride, phase
        s, and the row a and column b of the first place kept.

    Returns
    -------
    (..., ceil((H - a) / s), ceil((W - b) / s)), a view.
    """
    return x[..., phase[0] :: stride, phase[1] :: stride]


def fill_nearest(x: Tensor, stride: int) -> Tensor:
    """Copy each value over its stride x stride block, its own place at the top left: U, with ``D(U(x)) = x``.

    ``x`` is (..., h, w) of any dtype; the result is (..., s h, s w).
    """
    return x.repeat_interleave(stride, dim=-2).repeat_interleave(stride, dim=-1)


def place(known: Tensor, stride: int) -> Tensor:
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
