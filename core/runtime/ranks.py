"""The ranks of a run that ``torchrun`` started: who is who, what is agreed, who writes.

Nothing here starts processes: ``torchrun`` does, and says in the environment which rank a process is. Without it,
all is one rank and every call returns at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from stzoo.core.errors import ConfigError, StzooError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long a rank waits for the others, which may be busy with what one of them does for all; a dead one is noticed
at once."""

PARTING_S = 0.1
"""Wait before the ranks part: gloo's threads still drop the last gradients, for which they need the interpreter; one
that ends meanwhile aborts (torch 2.13; 4 of 20 runs of five steps of DDP, with this wait 0 of 30)."""

_OF_OTHERS = ("gloo", "Gloo", "NCCL", "ncclRemoteError", "remote worker", "Connection reset", "Connection closed")
"""Words of errors that are about another rank."""


class LostRankError(StzooError):
    """A rank went away in the middle of a run (killed, out of memory, network)."""


@dataclass(frozen=True)
class Ranks:
    """The processes that share a run, and which of them this is.

    Parameters
    ----------
    rank, world
        Number of this process, 0-based, and of all. One process by default.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this rank's part of ``count`` rows; the first ranks have one row more where it does not come out even.

        Raises
        ------
        ConfigError
            There are fewer rows than ranks.
        """
        if count < self.world:
            raise ConfigError(f"{count} rows are too few for {self.world} ranks", todo="start fewer ranks")
        size, more = divmod(count, self.world)
        start = self.rank * size + min(self.rank, more)
        return slice(start, start + size + (self.rank < more))

    def my_jobs(self, count: int) -> range:
        """Return this rank's jobs of ``count``: consecutive ones, none on some ranks if there are few."""
        first, last = (count * (self.rank + k) // self.world for k in (0, 1))
        return range(first, last)

    def map_jobs(self, count: int, make: Callable[[int], T]) -> list[T]:
        """Return ``make(0)``, ``make(1)`` ... on all ranks; each is computed by one of them and sent to the others."""
        mine = {job: make(job) for job in range(self.rank, count, self.world)}
        if self.world == 1:
            return list(mine.values())
        import torch.distributed as dist

        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, mine)
        done = {job: made for part in parts for job, made in part.items()}
        return [done[job] for job in range(count)]

    def weight(self, count: int) -> float:
        """Weight of this rank's mean so that averaging over ranks gives the mean of the global batch of ``count``."""
        mine = range(count)[self.share(count)]
        return self.world * len(mine) / count

    def gather(self, x: Tensor, count: int) -> Tensor:
        """All-gather the ranks' shares of ``count`` rows, (count, ...), with gradients to each of them.

        Every rank then forms the loss of the global batch, and the mean of the ranks' gradients is its gradient.
        """
        if self.world == 1:
            return x
        import torch

        most = -(-count // self.world)
        padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])  # all parts must be of one size
        parts = _gather_function().apply(padded, self.rank, self.world)
        sizes = [replace(self, rank=rank).share(count) for rank in range(self.world)]
        return torch.cat([part[: one.stop - one.start] for part, one in zip(parts, sizes, strict=True)])

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Average named scores over all ranks; the names are the same on each."""
        if self.world == 1:
            return dict(values)
        import torch
        import torch.distributed as dist

        metrics = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(metrics)
        return dict(zip(values, (metrics / self.world).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Logical or over all ranks."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def broadcast(self, value: T) -> T:
        """Broadcast rank 0's value, of plain Python types, to all ranks."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        found: T = box[0]
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise a LostRankError where torch.distributed fails because another rank is gone.

        Raises
        ------
        LostRankError
            Another rank does not answer.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not any(word in str(error) for word in _OF_OTHERS):
                raise
            raise LostRankError(
                f"another rank is gone: {str(error).splitlines()[0][:200]}",
                todo="look at its output; go on from the last checkpoint with --resume (resume=True)",
            ) from error

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.any(False)


ALONE = Ranks()
"""One process."""


@cache
def _gather_function() -> Any:
    """Return the operation that gives all ranks the tensors of all, (world, ...); gradients are summed over ranks.

    It is made on first use: a rank alone needs no torch.
    """
    import torch
    import torch.distributed as dist

    class Gather(torch.autograd.Function):
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

    return Gather


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the other ranks of a ``torchrun`` for a while; without it this is one rank.

    Tensors on the CPU go through gloo, those on CUDA through NCCL.

    Raises
    ------
    ConfigError
        ``torchrun`` set the variables of its environment in part only.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set and {', '.join(missing)} not", where="the environment", todo="start it with torchrun"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        time.sleep(PARTING_S)
        dist.destroy_process_group()
