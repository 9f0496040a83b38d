"""A section's spots block by block: memory follows the block, and processes may share the blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.runtime.ranks import ALONE, Ranks

BLOCK = 512
"""Spots of a block: always the same ones, so that a result depends neither on batches nor on who computes it."""


@dataclass(frozen=True)
class BlockShare:
    """What one process computes of a section, and the tables that all processes of a run fill together.

    Parameters
    ----------
    n_spots
        Spots of the section.
    ranks
        The processes; each has a run of consecutive blocks.
    folder
        Where tables are kept, on a disk that all processes see; None: in memory, for one process alone.
    """

    n_spots: int
    ranks: Ranks = ALONE
    folder: Path | None = None

    @property
    def blocks(self) -> list[slice]:
        """The blocks of this process, in order."""
        every = blocks_of(self.n_spots)
        return [every[number] for number in self.ranks.my_jobs(len(every))]

    def table(self, name: str, width: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
        """Return a table (n_spots, width) for what every process has to know of all spots.

        Each fills the rows of its own blocks; after :meth:`wait` all rows are there. A table on disk takes memory
        only as far as the machine has some to spare.
        """
        shape = (self.n_spots, width)
        if self.folder is None or 0 in shape:
            return np.empty(shape, dtype=dtype)
        path = self.folder / f"{name}.table"
        if self.ranks.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(self.n_spots * width * np.dtype(dtype).itemsize)
        self.wait()
        return np.memmap(path, dtype=dtype, mode="r+", shape=shape)

    def wait(self) -> None:
        """Wait until every process has come here."""
        self.ranks.barrier()


def blocks_of(n_spots: int) -> list[slice]:
    """Return all blocks of a section."""
    return [slice(start, min(start + BLOCK, n_spots)) for start in range(0, n_spots, BLOCK)]


def batches_of(blocks: Iterable[slice], batch_size: int) -> list[slice]:
    """Return the batches of some blocks: no batch reaches over the edge of a block."""
    return [
        slice(start, min(start + batch_size, block.stop))
        for block in blocks
        for start in range(block.start, block.stop, batch_size)
    ]


def stack_blocks(parts: Iterable[tuple[slice, npt.NDArray[Any]]], n_spots: int, width: int) -> npt.NDArray[np.float32]:
    """Return the rows of all blocks as one array, float32 (n_spots, width)."""
    out = np.empty((n_spots, width), dtype=np.float32)
    for rows, part in parts:
        out[rows] = part
    return out
