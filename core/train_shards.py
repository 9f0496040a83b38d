"""Parameters that are sharded over the ranks (FSDP2), and whole tensors in checkpoints whatever the ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def shard(whole: nn.Module, blocks: Sequence[nn.Module], world: int) -> nn.Module:
    """Let every rank keep its part of the parameters only; gradients are averaged as the parts are.

    Parameters
    ----------
    whole
        What a step calls; what is in no block is gathered for the time of the step.
    blocks
        Modules inside, each gathered only while it runs forward or backward.
    world
        Number of ranks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(whole.parameters()).device.type, (world,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(whole, mesh=mesh)
    return whole


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
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
    """Return a tensor whole, on every rank; all ranks ask for it."""
    found: Tensor = x.full_tensor() if hasattr(x, "full_tensor") else x
    return found


def parted_like(now: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole tensors, parted over the ranks as those of the same names are now."""
    return {name: parted(now[name], tensor) if name in now else tensor for name, tensor in tensors.items()}


def parted(like: Tensor, tensor: Tensor) -> Tensor:
    """Return a whole tensor, parted over the ranks as ``like`` is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
