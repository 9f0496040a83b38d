"""The ranks of a run that ``torchrun`` started: who is who, what is agreed, who writes.

Nothing here starts processes: ``torchrun`` does, and says in the environment which rank a process is. Without it,
all is one rank and every call returns at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from stzoo.core.errors import ConfigError, StzooError

T = TypeVar("T")


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

    def share(self, count: int, what: str = "the batch") -> slice:
        """Return this rank's part of ``count`` rows; all parts are of one size.

        Raises
        ------
        ConfigError
            They can not be.
        """
        if count % self.world:
            raise ConfigError(
                f"{count} rows of {what} can not be shared evenly by {self.world} ranks",
                todo=f"choose a multiple of {self.world}, or another number of ranks",
            )
        size = count // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return each figure's mean over the ranks, on all of them; the names are the same everywhere."""
        if self.world == 1:
            return dict(values)
        import torch
        import torch.distributed as dist

        figures = torch.tensor(list(values.values()), dtype=torch.float64, device=_device())
        with _together():
            dist.all_reduce(figures)
        return dict(zip(values, (figures / self.world).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Say on all ranks whether one of them says so."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def same(self, value: T) -> T:
        """Return what rank 0 has, on all ranks: anything of plain Python values."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box: list[Any] = [value]
        with _together():
            dist.broadcast_object_list(box, src=0)
        found: T = box[0]
        return found

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.any(False)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other ranks of a ``torchrun`` for a while: gloo on the CPU, NCCL where CUDA is; one rank without it.

    Raises
    ------
    ConfigError
        ``torchrun`` set the variables of its environment in part only.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
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
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Turn what the library says of a rank that is gone into our words."""
    try:
        yield
    except RuntimeError as error:
        raise lost(error) from error


def lost(error: BaseException) -> LostRankError:
    """Return the error of a call that another rank did not answer."""
    return LostRankError(
        f"another rank is gone: {str(error).splitlines()[0][:200]}",
        todo="look at its output; go on from the last checkpoint with --resume (resume=True)",
    )


def _device() -> str:
    import torch.distributed as dist

    return "cuda" if dist.get_backend() == "nccl" else "cpu"
