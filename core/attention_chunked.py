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

_TILE_ELEMENTS = 1 << 22  # scores held at a time (16 MiB in float32); measured best of 2^20 .. 2^24 on CPU
_TILE_KEYS = 1024


@dataclass(frozen=True)
class _Plan:
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
    columns = max(1, min(m, _TILE_KEYS))
    rows = max(1, min(n, _TILE_ELEMENTS // max(1, b * h * columns)))
    seed = int(torch.randint(1 << 62, ()).item()) if dropout else 0
    plan = _Plan(scale, causal, dropout, seed, rows, columns)
    with torch.autocast(q.device.type, enabled=False):  # tiles are summed in float32 at least
        return cast("Tensor", _Chunked.apply(q, k, v, mask, bias, plan))  # type: ignore[no-untyped-call]


class _Chunked(torch.autograd.Function):
    """The pair of passes; only inputs, the output and one normaliser a row are kept between them."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, plan: _Plan
    ) -> Tensor:
        exact = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:3], v.shape[3])
        normaliser = q.new_empty(*q.shape[:3], 1, dtype=exact)
        for first, rows, blocks in plan.tiles(q.shape[2], k.shape[2]):
            out[:, :, rows], normaliser[:, :, rows] = _row_block(q, k, v, mask, bias, plan, first, rows, blocks)
        ctx.save_for_backward(q, k, v, mask, bias, out, normaliser)
        ctx.plan = plan
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, bias, out, normaliser = ctx.saved_tensors
        plan: _Plan = ctx.plan
        exact = normaliser.dtype
        dq, dk, dv = (torch.zeros_like(t, dtype=exact) for t in (q, k, v))
        dbias = torch.zeros_like(bias, dtype=exact) if bias is not None and ctx.needs_input_grad[4] else None
        for first, rows, blocks in plan.tiles(q.shape[2], k.shape[2]):
            dy = grad[:, :, rows].to(exact)
            queries = q[:, :, rows].to(exact)
            inner = (dy * out[:, :, rows]).sum(-1, keepdim=True)  # (b, h, r, 1)
            for number, columns in enumerate(blocks, first):
                keys, values = k[:, :, columns].to(exact), v[:, :, columns].to(exact)
                scores = _scores(queries * plan.scale, keys, mask, bias, plan, rows, columns, (q.shape[2], k.shape[2]))
                weights = scores.sub_(normaliser[:, :, rows]).exp_()  # (b, h, r, c)
                dweights = dy @ values.mT
                kept = _kept(weights, plan, number)
                dv[:, :, columns] += (weights if kept is None else weights * kept).mT @ dy
                if kept is not None:
                    dweights *= kept
                dscores = dweights.sub_(inner).mul_(weights)
                if dbias is not None:
                    part = _tile(dbias, rows, columns)
                    part += dscores.sum_to_size(part.shape)
                dq[:, :, rows] += (dscores @ keys).mul_(plan.scale)
                dk[:, :, columns] += (dscores.mT @ queries).mul_(plan.scale)
        cast_bias = None if dbias is None else dbias.to(bias.dtype)
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, cast_bias, None


def _row_block(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    plan: _Plan,
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
        keys, values = k[:, :, columns].to(exact), v[:, :, columns].to(exact)
        scores = _scores(queries, keys, mask, bias, plan, rows, columns, (q.shape[2], k.shape[2]))
        new_top = torch.maximum(top, scores.amax(-1, keepdim=True))
        shift = new_top.masked_fill(new_top == -torch.inf, 0.0)  # rows that have seen nothing yet: no inf - inf
        weights = scores.sub_(shift).exp_()
        fade = (top - shift).exp_()
        total = total * fade + weights.sum(-1, keepdim=True)
        kept = _kept(weights, plan, number)
        summed = summed * fade + (weights if kept is None else weights * kept) @ values
        top = new_top
    seen = total > 0
    out = torch.where(seen, summed / total, 0.0)
    return out, torch.where(seen, top + total.log(), torch.inf)


def _scores(
    queries: Tensor,
    keys: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    plan: _Plan,
    rows: slice,
    columns: slice,
    size: tuple[int, int],
) -> Tensor:
    """Return the scores of one tile, -inf where the query may not look; ``queries`` carry the scale."""
    scores = queries @ keys.mT
    if bias is not None:
        scores += _tile(bias, rows, columns)
    if mask is not None:
        scores.masked_fill_(~_tile(mask, rows, columns), -torch.inf)
    last = rows.start + size[1] - size[0]  # the last key that the first of these rows sees
    if plan.causal and columns.stop - 1 > last:
        ahead = torch.arange(columns.start, columns.stop, device=scores.device)
        here = torch.arange(last, last + rows.stop - rows.start, device=scores.device)
        scores.masked_fill_(ahead[None, :] > here[:, None], -torch.inf)
    return scores


def _tile(full: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return the part of a (1|b, 1|h, 1|n, 1|m) tensor that falls on a tile (a view)."""
    return full[:, :, rows if full.shape[2] > 1 else slice(None), columns if full.shape[3] > 1 else slice(None)]


def _kept(weights: Tensor, plan: _Plan, number: int) -> Tensor | None:
    """Return 0 or 1 / (1 - p) a weight of tile ``number``; the same in both passes, for it depends on the seed only."""
    if not plan.dropout:
        return None
    generator = torch.Generator(weights.device).manual_seed((plan.seed + number) % (1 << 63))
    keep = torch.empty_like(weights).bernoulli_(1 - plan.dropout, generator=generator)
    return keep.div_(1 - plan.dropout)
