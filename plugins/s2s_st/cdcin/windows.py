"""Windows over a canvas: those for training, those for inference, and averaging of overlapping predictions.

Corners are in places of the canvas (every measured one), so a window is on the measured phase by construction.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from stzoo import ConfigError, DataError, Progress
from stzoo.plugins.s2s_st.cdcin.canvas import Canvas
from stzoo.plugins.s2s_st.images import turn_and_mirror
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""Values and known places of windows, (b, 1, P/s, P/s), to estimates (b, 1, P, P)."""

LEAST_OCCUPIED = 0.5
"""A training window has a spot in more than this share of its places (the authors' code)."""
LEAST_KNOWN = 2
"""Measured spots of a training window, at least (ours): one as input and one as target."""


def choose_window_side(largest: int, stride: int, shape: tuple[int, int]) -> int:
    """Choose the side P of the windows of a grid.

    P is the largest multiple of s² (two decimations come out even; specification A4) that is not above ``largest``
    and not above the shorter side of the grid rounded up to such a multiple, so at most s² - 1 rows or columns of a
    window are padding. For irregular masks (stride 1) the multiple is 8, the side of an attention window (ours).

    Raises
    ------
    ConfigError
        ``largest`` is below one multiple.
    """
    unit = stride**2 if stride > 1 else 8
    if largest < unit:
        raise ConfigError(f"train.window is {largest}", todo=f"give {unit} or more for stride {stride}")
    return min(largest // unit, -(-min(shape) // unit)) * unit


def find_training_corners(canvas: Canvas) -> Tensor:
    """Return the corners of the windows to train on, int64 (k, 2), the last row and column included (D4).

    Windows with a spot in more than half of their places; where there is none, those with more than half as many
    spots as the fullest one (ours).

    Raises
    ------
    DataError
        No window has enough measured spots.
    """
    share = _measure_occupied(canvas)
    known = _pool(canvas.known, canvas.small_side, 1) * canvas.small_side**2
    usable = known.round() >= LEAST_KNOWN
    least = min(LEAST_OCCUPIED, float(share.max()) / 2)
    corners = torch.nonzero((share > least) & usable)
    if not len(corners):
        raise DataError(
            f"no window of {canvas.side} x {canvas.side} places has {LEAST_KNOWN} measured spots",
            todo="measure more spots, or give a larger train.window",
        )
    return corners


def find_inference_corners(canvas: Canvas, step: int) -> Tensor:
    """Return corners of overlapping windows that cover every spot, int64 (k, 2).

    Parameters
    ----------
    canvas
        Made with ``whole=True``.
    step
        Distance of windows in places of the full grid: at least the stride, at most their side. The last row and
        column of windows are always among them.

    Returns
    -------
    As in the authors' code windows that are more than half occupied; for spots that none of these covers also every
    window that holds one (ours: the code leaves such spots out of its scores).
    """
    apart = min(max(1, step // canvas.stride), canvas.small_side)
    at = [_list_steps(n - canvas.small_side, apart) for n in canvas.known.shape]
    corners = torch.cartesian_prod(*at)
    share = _measure_occupied(canvas)[corners[:, 0], corners[:, 1]]
    chosen = share > LEAST_OCCUPIED
    bare = canvas.occupied & (_count_coverage(canvas, corners[chosen]) == 0)
    touches = _pool(bare, canvas.side, canvas.stride)[corners[:, 0], corners[:, 1]] > 0
    return corners[chosen | touches]


def cut_windows(canvas: Canvas, genes: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Cut windows out of a canvas.

    Parameters
    ----------
    genes, corners
        int64 (b,) and (b, 2), a map and a corner for each window.

    Returns
    -------
    values, known
        float32 and bool (b, 1, P/s, P/s).
    """
    across = torch.arange(canvas.small_side)
    rows = (corners[:, 0, None] + across)[:, :, None]  # (b, p, 1)
    cols = (corners[:, 1, None] + across)[:, None, :]  # (b, 1, p)
    return canvas.values[genes[:, None, None], rows, cols][:, None], canvas.known[rows, cols][:, None]


def augment(values: Tensor, known: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rotate and reflect each window, (b, 1, p, p), and its mask alike, by one of the eight poses of a square.

    Its input holds measured places only: reflecting the full grid first would move hidden ones onto their phase (D1).
    """
    poses = torch.randint(8, (len(values),), generator=generator).tolist()
    both = [[turn_and_mirror(x, pose) for x, pose in zip(part, poses, strict=True)] for part in (values, known)]
    return torch.stack(both[0]), torch.stack(both[1])


def average_windows(
    canvas: Canvas, corners: Tensor, predict: Predict, *, batch: int, progress: Progress | None = None
) -> Tensor:
    """Average the estimates of overlapping windows, gene by gene, a few windows in memory at a time.

    Returns
    -------
    float32 (G, s H, s W) on the CPU, NaN where no window reaches.
    """
    n_genes, (height, width), side = len(canvas.values), canvas.occupied.shape, canvas.side
    total = torch.zeros(n_genes, height, width)
    jobs = torch.cartesian_prod(torch.arange(n_genes), torch.arange(len(corners)))
    for start in range(0, len(jobs), batch):
        genes, at = jobs[start : start + batch].unbind(dim=1)
        found = predict(*cut_windows(canvas, genes, corners[at])).float().cpu()
        for gene, corner, window in zip(genes.tolist(), corners[at].tolist(), found, strict=True):
            i, j = (canvas.stride * c for c in corner)
            total[gene, i : i + side, j : j + side] += window[0]
        if progress is not None:
            progress(start + len(genes), len(jobs))
    count = _count_coverage(canvas, corners)
    return total / count  # 0 / 0 is NaN


def _list_steps(last: int, step: int) -> Tensor:
    return torch.tensor(sorted({*range(0, last, step), last}))


def _count_coverage(canvas: Canvas, corners: Tensor) -> Tensor:
    """Return how many windows reach each place, float32 (s H, s W)."""
    count = torch.zeros(canvas.occupied.shape)
    for i, j in (canvas.stride * corners).tolist():
        count[i : i + canvas.side, j : j + canvas.side] += 1
    return count


def _measure_occupied(canvas: Canvas) -> Tensor:
    """Return the occupied share of the window at every corner, float32."""
    return _pool(canvas.occupied, canvas.side, canvas.stride)


def _pool(mask: Tensor, side: int, step: int) -> Tensor:
    return F.avg_pool2d(mask[None, None].float(), side, step)[0, 0]
