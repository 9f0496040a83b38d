"""Parameters that are sharded over the ranks (FSDP2), and whole tensors in checkpoints whatever the ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def shard(whole: nn.Module, blocks: Sequence[nn.Module], world: int) -> nn.Module:
    """Shard the parameters over the ranks (FSDP2); gradients are reduced and sharded likewise.

    Parameters
    ----------
    whole
        What a step calls; what is in no block is gathered for the time of the step.
    blocks
        Modules inside, each gathered only while one of its public methods runs, or its backward.
    world
        Number of ranks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(next(whole.parameters()).device.type, (world,))
    for block in blocks:
        ways = [name for name, one in vars(type(block)).items() if callable(one) and not name.startswith("_")]
        fully_shard(block, mesh=mesh)
        for name in ways:
            if name != "forward":
                register_fsdp_forward_method(block, name)
    fully_shard(whole, mesh=mesh, ignored_params={p for p in whole.parameters() if p.ndim == 0})  # it takes no scalars
    return whole


def average_scalars(parameters: Sequence[Tensor], world: int) -> None:
    """Average over the ranks the gradients of parameters that are not sharded."""
    import torch.distributed as dist

    for parameter in parameters:
        if parameter.ndim == 0 and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world


def clip_gradients(parameters: Sequence[Tensor], limit: float) -> float:
    """Scale gradients to a norm of at most ``limit``; return the norm before. Some may be sharded, some whole."""
    parted = [p for p in parameters if p.grad is not None and hasattr(p, "full_tensor")]
    if not parted:
        return float(nn.utils.clip_grad_norm_(parameters, limit))
    rest = [p for p in parameters if not hasattr(p, "full_tensor")]
    norm = math.hypot(*(float(whole(nn.utils.clip_grad_norm_(some, math.inf))) for some in (parted, rest) if some))
    if norm > limit:
        for parameter in (*parted, *rest):
            if parameter.grad is not None:
                parameter.grad *= limit / (norm + 1e-6)
    return norm


@contextmanager
def gather_parameters(module: nn.Module) -> Iterator[None]:
    """Have all parameters of a sharded module whole for a while, for calls that are not a step."""
    parts: list[Any] = [part for part in module.modules() if hasattr(part, "unshard")]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not parts[0], recurse=False)
            part.reshard()


def whole(x: Tensor) -> Tensor:
    """All-gather a sharded tensor; every rank has to call it."""
    found: Tensor = x.full_tensor() if hasattr(x, "full_tensor") else x
    return found


def shard_like(now: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shard whole tensors over the ranks as those of the same names are sharded now."""
    return {name: shard_tensor(now[name], tensor) if name in now else tensor for name, tensor in tensors.items()}


def shard_tensor(like: Tensor, tensor: Tensor) -> Tensor:
    """Shard a whole tensor over the ranks as ``like`` is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
