"""The measured values of a section on their own grid: all that training and inference may read; no hidden value passes.

Windows start on the measured phase (specification, section 2.2), so all that training and inference read of a regular
section is the sub-lattice that was measured; only it is kept. Irregular masks are the case of stride 1: every place is
kept, and hidden ones are 0 (specification A4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from stzoo import DataError
from stzoo.core.arrays import Floats, Mask
from stzoo.plugins.s2s_st.lattice import Phase
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """Measured values on a grid that starts on their phase and holds at least one window.

    Parameters
    ----------
    values
        float32 (G, H, W), log-normalised; 0 where not known.
    known
        bool (H, W), where a spot was measured.
    occupied
        bool (s H, s W), the full grid: where there is a spot, measured or not.
    stride, side
        s, and the side P of a window of the full grid; a window of the measured places has side P / s.
    offset
        Rows and columns of this full grid before the first of the section's.
    """

    values: Tensor
    known: Tensor
    occupied: Tensor
    stride: int
    side: int
    offset: Phase

    @classmethod
    def of(
        cls,
        maps: Floats,
        occupied: Mask,
        measured: Mask,
        sampled: tuple[int, Phase],
        side: int,
        *,
        whole: bool = False,
    ) -> Canvas:
        """Extract the measured values of a section, and nothing else.

        Parameters
        ----------
        maps
            float32 (G, h, w), log-normalised; what is outside ``measured`` is dropped unread.
        occupied, measured
            bool (h, w), places with a spot, and those of them that were measured.
        sampled
            Stride s and phase of the measured places; ``(1, (0, 0))`` for an irregular mask.
        side
            P, divisible by s.
        whole
            Also reach the rows and columns before the phase, by a row or column of "no spot" (ours); for inference.

        Raises
        ------
        DataError
            A measured value is not finite, or shapes do not fit.
        """
        _check_shapes(maps, occupied, measured)
        stride, (a, b) = sampled
        kept = np.ascontiguousarray(maps[:, a::stride, b::stride], dtype=np.float32)
        known = measured[a::stride, b::stride]
        _refuse_gaps(kept, known)
        kept = np.where(known, kept, np.float32(0))  # the only place where anything is filled
        rim = (int(whole and a > 0), int(whole and b > 0))
        least = side // stride
        size = [max(n + first, least) for n, first in zip(known.shape, rim, strict=True)]
        offset = tuple(-p % stride if whole else -p for p in (a, b))
        return cls(
            _lay(torch.from_numpy(kept), rim, size),
            _lay(torch.from_numpy(known.copy()), rim, size),
            _lay(torch.from_numpy(occupied.copy()), offset, [stride * n for n in size]),
            stride,
            side,
            (offset[0], offset[1]),
        )

    @property
    def small_side(self) -> int:
        """Side of a window of the measured places, P / s."""
        return self.side // self.stride


def _lay(x: Tensor, first: tuple[int, ...], size: list[int]) -> Tensor:
    """Place (..., h, w) into zeros (..., *size) at row and column ``first``; negative offsets crop."""
    (top, left), (h, w) = first, x.shape[-2:]
    return F.pad(x, (left, size[1] - w - left, top, size[0] - h - top))


def _check_shapes(maps: Floats, occupied: Mask, measured: Mask) -> None:
    if maps.ndim != 3 or not (maps.shape[1:] == occupied.shape == measured.shape):
        shapes = f"maps {maps.shape}, occupied {occupied.shape}, measured {measured.shape}"
        raise DataError(f"grids of different shapes: {shapes}", todo="give (G, h, w), (h, w) and (h, w)")
    if (measured & ~occupied).any():
        row, col = (int(i) for i in np.argwhere(measured & ~occupied)[0])
        raise DataError("a place is measured that holds no spot", where=f"row {row}, column {col}")
    if not measured.any():
        raise DataError("no place is measured", todo="choose another rule for the measured spots")


def _refuse_gaps(kept: Floats, known: Mask) -> None:
    gaps = ~np.isfinite(kept) & known
    if gaps.any():
        gene, row, col = (int(i) for i in np.argwhere(gaps)[0])
        raise DataError(
            f"{int(gaps.sum())} measured values are not finite, the first one of gene {gene}",
            where=f"row {row}, column {col} of the measured places",
            todo="remove these spots, or call them not measured",
        )
