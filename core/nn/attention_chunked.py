"""Attention tile by tile: O(N) memory forward and backward, for everything that no fused kernel takes.

The forward pass is the online softmax (Milakov and Gimelshein, 2018; Rabe and Staats, 2021); the backward pass
computes each tile again from the saved row normalisers, as FlashAttention-2 does (Dao, 2023).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE_SCORES = 1 << 21  # scores held at a time on a CPU: 8 MiB (2^20 and 2^21 measured best of 2^18 .. 2^23)
_TILE_SCORES_CUDA = 1 << 24  # 64 MiB: fewer, larger kernels
_TILE_KEYS = 512
_TILE_LEAST = 64  # rows and keys of a tile, however many heads there are


@dataclass(frozen=True)
class _TilePlan:
    """What a tile needs to know besides the tensors."""

    scale: float
    causal: bool
    dropout: float
    seed: int
    rows: int
    columns: int

    def tiles(self, n: int, m: int) -> Iterator[tuple[int, slice, list[slice]]]:
        """Yield (number of the first tile, rows, key blocks that these rows can see)."""
        per_row = -(-m // self.columns)
        for i, start in enumerate(range(0, n, self.rows)):
            rows = slice(start, min(start + self.rows, n))
            seen = min(m, max(0, rows.stop + m - n)) if self.causal else m
            blocks = [slice(c, min(c + self.columns, seen)) for c in range(0, seen, self.columns)]
            yield i * per_row, rows, blocks


@dataclass(frozen=True)
class _Place:
    """Rows and columns of one tile, and its number."""

    rows: slice
    columns: slice
    number: int


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    *,
    scale: float,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Attend in tiles; memory grows with n + m, never with n * m, in both passes.

    Parameters
    ----------
    q, k, v
        (b, h, n, d), (b, h, m, d), (b, h, m, dv), floating point.
    mask, bias
        Four-dimensional, each axis full or 1; the gradient of ``bias`` is summed over its axes of size 1.
    scale
        Factor on the scores.
    causal
        Query i sees keys up to i + m - n.
    dropout
        Share of weights dropped; the pattern comes from one number of torch's global generator.

    Returns
    -------
    (b, h, n, dv) in the dtype of ``q``; 0 where a query sees no key.
    """
    b, h, n, _ = q.shape
    m = k.shape[2]
    rows, columns = _tile_size(b * h, n, m, _TILE_SCORES_CUDA if q.is_cuda else _TILE_SCORES)
    seed = int(torch.randint(1 << 62, ()).item()) if dropout else 0
    plan = _TilePlan(scale, causal, dropout, seed, rows, columns)
    return cast("Tensor", _Chunked.apply(q, k, v, mask, bias, plan))  # type: ignore[no-untyped-call]


def _tile_size(heads: int, n: int, m: int, scores: int) -> tuple[int, int]:
    """Return rows and columns of a tile, so that all heads together hold about ``scores`` scores."""
    per_head = scores // max(1, heads)
    columns = max(_TILE_LEAST, min(_TILE_KEYS, per_head // _TILE_LEAST))
    rows = max(_TILE_LEAST, per_head // columns)
    return max(1, min(n, rows)), max(1, min(m, columns))


class _Chunked(torch.autograd.Function):
    """The pair of passes; only inputs, the output and one normaliser a row are kept between them."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, plan: _TilePlan
    ) -> Tensor:
        exact = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:3], v.shape[3])
        normaliser = q.new_empty(*q.shape[:3], 1, dtype=exact)
        with torch.autocast(q.device.type, enabled=False):  # tiles are summed in float32 at least
            for first, rows, blocks in plan.tiles(q.shape[2], k.shape[2]):
                out[:, :, rows], normaliser[:, :, rows] = _row_block(q, k, v, mask, bias, plan, first, rows, blocks)
        ctx.save_for_backward(q, k, v, mask, bias, out, normaliser)
        ctx.plan = plan
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, bias, out, normaliser = ctx.saved_tensors
        exact = normaliser.dtype
        sums = [torch.zeros_like(t, dtype=exact) for t in (q, k, v)]
        if bias is not None and ctx.needs_input_grad[4]:
            sums.append(torch.zeros_like(bias, dtype=exact))
        with torch.autocast(q.device.type, enabled=False):
            for first, rows, blocks in ctx.plan.tiles(q.shape[2], k.shape[2]):
                dy = grad[:, :, rows].to(exact)
                inner = (dy * out[:, :, rows]).sum(-1, keepdim=True)  # (b, h, r, 1)
                for number, columns in enumerate(blocks, first):
                    place = _Place(rows, columns, number)
                    _add_gradients(sums, dy, inner, normaliser, (q, k, v, mask, bias), ctx.plan, place)
        dq, dk, dv, *dbias = (total.to(t.dtype) for total, t in zip(sums, (q, k, v, bias), strict=False))
        return dq, dk, dv, None, dbias[0] if dbias else None, None


def _add_gradients(
    sums: list[Tensor],
    dy: Tensor,
    inner: Tensor,
    normaliser: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None],
    plan: _TilePlan,
    place: _Place,
) -> None:
    """Add what one tile gives to the gradients of q, k, v and, when there is a fourth sum, of the bias."""
    q, k, v, mask, bias = inputs
    rows, columns = place.rows, place.columns
    queries, keys, values = (t.to(dy.dtype) for t in (q[:, :, rows], k[:, :, columns], v[:, :, columns]))
    scores = _scores(queries * plan.scale, keys, mask, bias, plan, place, k.shape[2] - q.shape[2])
    weights = scores.sub_(normaliser[:, :, rows]).exp_()  # (b, h, r, c)
    dweights = dy @ values.mT
    kept = _draw_dropout(weights, plan, place)
    sums[2][:, :, columns] += (weights if kept is None else weights * kept).mT @ dy
    if kept is not None:
        dweights *= kept
    dscores = dweights.sub_(inner).mul_(weights)
    sums[0][:, :, rows] += (dscores @ keys).mul_(plan.scale)
    sums[1][:, :, columns] += (dscores.mT @ queries).mul_(plan.scale)
    if len(sums) > 3:
        part = _tile(sums[3], place)
        part += dscores.sum_to_size(part.shape)


def _row_block(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    plan: _TilePlan,
    first: int,
    rows: slice,
    blocks: list[slice],
) -> tuple[Tensor, Tensor]:
    """Return output (b, h, r, dv) and log-sum-exp (b, h, r, 1) of some rows; +inf where a row sees nothing."""
    exact = torch.promote_types(q.dtype, torch.float32)
    queries = q[:, :, rows].to(exact) * plan.scale
    top = torch.full((*queries.shape[:3], 1), -torch.inf, dtype=exact, device=q.device)
    total = torch.zeros_like(top)
    summed = torch.zeros(*queries.shape[:3], v.shape[3], dtype=exact, device=q.device)
    for number, columns in enumerate(blocks, first):
        place = _Place(rows, columns, number)
        keys, values = k[:, :, columns].to(exact), v[:, :, columns].to(exact)
        scores = _scores(queries, keys, mask, bias, plan, place, k.shape[2] - q.shape[2])
        new_top = torch.maximum(top, scores.amax(-1, keepdim=True))
        shift = new_top.masked_fill(new_top == -torch.inf, 0.0)  # rows that have seen nothing yet: no inf - inf
        weights = scores.sub_(shift).exp_()
        fade = (top - shift).exp_()
        total = total * fade + weights.sum(-1, keepdim=True)
        kept = _draw_dropout(weights, plan, place)
        summed = summed * fade + (weights if kept is None else weights * kept) @ values
        top = new_top
    seen = total > 0
    out = torch.where(seen, summed / total, 0.0)
    return out, torch.where(seen, top + total.log(), torch.inf)


def _scores(
    queries: Tensor, keys: Tensor, mask: Tensor | None, bias: Tensor | None, plan: _TilePlan, place: _Place, ahead: int
) -> Tensor:
    """Return the scores of one tile, -inf where the query may not look.

    ``queries`` carry the scale; ``ahead`` is by how much keys outnumber queries.
    """
    scores = queries @ keys.mT
    if bias is not None:
        scores += _tile(bias, place)
    if mask is not None:
        scores.masked_fill_(~_tile(mask, place), -torch.inf)
    rows, columns = place.rows, place.columns
    if plan.causal and columns.stop - 1 > rows.start + ahead:  # the first of these rows does not see the last key
        key = torch.arange(columns.start, columns.stop, device=scores.device)
        last = torch.arange(rows.start + ahead, rows.stop + ahead, device=scores.device)
        scores.masked_fill_(key[None, :] > last[:, None], -torch.inf)
    return scores


def _tile(full: Tensor, place: _Place) -> Tensor:
    """Return the part of a (1|b, 1|h, 1|n, 1|m) tensor that falls on a tile (a view)."""
    rows = place.rows if full.shape[2] > 1 else slice(None)
    columns = place.columns if full.shape[3] > 1 else slice(None)
    return full[:, :, rows, columns]


def _draw_dropout(weights: Tensor, plan: _TilePlan, place: _Place) -> Tensor | None:
    """Return 0 or 1 / (1 - p) a weight of a tile: the same in both passes, for it depends on the seed only."""
    if not plan.dropout:
        return None
    generator = torch.Generator(weights.device).manual_seed((plan.seed + place.number) % (1 << 63))
    keep = torch.empty_like(weights).bernoulli_(1 - plan.dropout, generator=generator)
    return keep.div_(1 - plan.dropout)
