"""Rows of all ranks, with gradients to the rank that each came from."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, world: int) -> Tensor:
        ctx.rank = rank
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world)]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        whole = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole[ctx.rank], None, None


def all_rows(x: Tensor, rank: int, world: int) -> Tensor:
    """Return the tensors of all ranks, (world, ...), of one shape; a gradient is the sum over the ranks'."""
    out: Tensor = _Gather.apply(x, rank, world)  # type: ignore[no-untyped-call]
    return out
