"""Where rows of results go, block by block: into memory, or into a zarr store that processes write together.

Both take ``store[name][rows] = values``, so that whoever computes rows knows nothing of where they go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.io.write import add_array, check_suffix, close_frame, write, write_frame
from stzoo.core.runtime.outputs import check_alone, shared_writing
from stzoo.core.runtime.ranks import ALONE, Ranks


class ResultStore(Protocol):
    """What results are written into. Rank 0 opens and closes it; every rank writes the rows of its own blocks."""

    tables: Path | None
    """Folder in which the ranks may keep tables meanwhile; None: in memory."""

    def open(self, section: Section, arrays: dict[str, int]) -> None:
        """Make arrays of so many columns, float32 (n_spots, columns), NaN where nothing is written.

        Parameters
        ----------
        section
            Spots, positions, slide and ``uns`` of the result.
        arrays
            Columns by name: ``X``, ``layers/NAME`` or ``obsm/NAME``.
        """
        ...

    def __getitem__(self, name: str) -> Any:
        """Return an array that takes and gives rows."""
        ...

    def close(self, section: Section) -> Section:
        """Return the section as it is now in the store: with its arrays where they are in memory."""
        ...


class MemoryStore:
    """Arrays in memory, written as ``NAME.h5ad`` at the end where a path is given."""

    tables: Path | None = None

    def __init__(self, out: Path | None, *, overwrite: bool) -> None:
        self._out, self._overwrite = out, overwrite
        self._arrays: dict[str, Floats] = {}

    def open(self, section: Section, arrays: dict[str, int]) -> None:
        """Make the arrays."""
        n = section.n_spots
        self._arrays = {name: np.full((n, width), np.nan, np.float32) for name, width in arrays.items()}

    def __getitem__(self, name: str) -> Floats:
        """Return an array."""
        return self._arrays[name]

    def close(self, section: Section) -> Section:
        """Return the section with all arrays, written where it was asked for."""
        adata = section.adata.copy()
        for name, array in self._arrays.items():
            kind, _, key = name.partition("/")
            if key:
                getattr(adata, kind)[key] = array
            else:
                adata.X = array
        section = replace(section, adata=adata)
        if self._out is not None:
            write(section, self._out, overwrite=self._overwrite)
        return section


class ZarrStore:
    """A zarr store, as :func:`stzoo.core.io.write.write` lays it out; its caller moves it to its place when whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._group: Any = None
        self.tables: Path | None = path.parent / "tables"

    def open(self, section: Section, arrays: dict[str, int]) -> None:
        """Make the store."""
        write_frame(section, self._path)
        for name, width in arrays.items():
            add_array(self._path, name, (section.n_spots, width))

    def __getitem__(self, name: str) -> Any:
        """Return a zarr array; all ranks may ask once the store is open."""
        if self._group is None:
            import zarr

            self._group = zarr.open_group(self._path, mode="r+", use_consolidated=False)
        return self._group[name]

    def close(self, section: Section) -> Section:
        """Put the slide in, and list what the store holds; the arrays stay on disk."""
        close_frame(section, self._path)
        return section


@contextmanager
def open_result_store(out: Path | None, ranks: Ranks = ALONE, *, overwrite: bool = False) -> Iterator[ResultStore]:
    """Yield the store that belongs to an output: memory for None and ``NAME.h5ad``, else ``NAME.zarr``.

    An output is whole or absent, whatever happens on the way.

    Raises
    ------
    UsageError
        The name has another suffix, or several processes are to write what only one can.
    OutputError
        The output exists, or the disk refuses it.
    LostRankError
        Another rank went away; nothing is written then.
    """
    if out is not None and check_suffix(out) == ".zarr":
        with shared_writing(out, ranks, overwrite=overwrite) as path:
            yield ZarrStore(path)
        return
    check_alone(out, ranks, overwrite=overwrite)
    yield MemoryStore(out, overwrite=overwrite)
