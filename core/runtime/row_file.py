"""Rows of one shape and dtype in a folder on disk: filled in any order, kill -9 safe, read a few at a time.

``rows.npy`` holds the rows (``numpy.load(..., mmap_mode="r")`` opens it), ``sums.npy`` a checksum for each row, 0 where
it was not written yet, and ``about.json`` what the rows are. A row counts as written when its checksum is there, which
follows the row to the disk; a row is held against its checksum when it is first read.

Why this is no zarr array with a crc32c codec (``benchmarks/row_store.py``, tiles of her2st C4, 552 rows of 150 kB):
with a chunk a row zarr 3.1 takes 23 times the CPU to write them, 29 to 68 times to read random batches of 64, and 3.7
times when asked row by row; with 16 rows a chunk, the block that the cache writes, 46, 32 to 72 and 6.0 times. Nor does
it take the room before the work, or say which rows reached the disk.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Array, Indices
from stzoo.core.errors import DataError, OutputError
from stzoo.core.runtime.outputs import writing

PENDING_BYTES = 64 << 20
"""Bytes written before they are forced to the disk and recorded: what a kill can cost."""

_ROWS, _SUMS, _ABOUT = "rows.npy", "sums.npy", "about.json"
_FULL = "make room, or name another folder: STZOO_CACHE=FOLDER; what is written stays and is used again"


class RowFile:
    """Rows on disk, read by index; many processes may read one file, one at a time may write it.

    Parameters
    ----------
    folder
        A folder made by :meth:`create`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: np.memmap[Any, Any] = np.load(folder / _ROWS, mmap_mode="r")
        self.shape: tuple[int, ...] = self._rows.shape
        self.dtype: np.dtype[Any] = self._rows.dtype
        self._sums = np.load(folder / _SUMS)
        if self._sums.shape != (len(self),) or self._sums.dtype != np.uint32:
            raise ValueError(f"{_SUMS} does not belong to {_ROWS}")
        self._trusted = np.zeros(len(self), dtype=bool)

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, Any], shape: tuple[int, ...], dtype: npt.DTypeLike) -> RowFile:
        """Make a folder with room for all rows, none written; what stood there is replaced.

        Raises
        ------
        OutputError
            The folder can not be written, or the disk has no room for all rows: then nothing is left of it.
        """
        try:
            with writing(folder, overwrite=True) as scratch:
                scratch.mkdir()
                (scratch / _ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
                np.save(scratch / _SUMS, np.zeros(shape[0], dtype=np.uint32))
                _allocate(scratch / _ROWS, shape, np.dtype(dtype))
        except OutputError as error:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raise OutputError(f"{error.what} ({size / 1e6:,.1f} MB)", where=error.where, todo=_FULL) from error
        return cls(folder)

    @classmethod
    def find(
        cls, folder: Path, about: Mapping[str, Any], shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> RowFile | None:
        """Open a folder of :meth:`create`; None where there is none, or a damaged one, or one of something else."""
        try:
            stated = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            found = cls(folder)
        except (OSError, ValueError, EOFError):
            return None
        fits = stated == json.loads(json.dumps(about)) and found.shape == shape and found.dtype == np.dtype(dtype)
        return found if fits else None

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind; it is opened again."""
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the folder again."""
        self.__init__(state["folder"])  # type: ignore[misc]

    def __getitem__(self, rows: npt.ArrayLike) -> Array:
        """Return some rows, (len(rows), ...), in memory of their own; no more of the file is read.

        Raises
        ------
        DataError
            A row was never written, or is not what was written.
        """
        index = np.asarray(rows, dtype=np.intp)
        out: Array = np.asarray(self._rows[index])
        for place in np.flatnonzero(~self._trusted[index]):
            row = index[place]
            if _sum(out[place].reshape(-1).view(np.uint8)) != self._sums[row]:
                raise DataError(f"row {row} is damaged", where=self.folder / _ROWS, todo=f"remove {self.folder}")
            self._trusted[row] = True
        return out

    @property
    def written(self) -> npt.NDArray[np.bool_]:
        """Which rows were written, bool (n,), as of when this object was made or last wrote."""
        return np.asarray(self._sums != 0)


class Writer:
    """Writes rows of a :class:`RowFile`; use it as a context, whose end makes everything last.

    Parameters
    ----------
    rows
        The file; its ``written`` follows.
    """

    def __init__(self, rows: RowFile) -> None:
        self._rows = rows
        self._start = int(rows._rows.offset)
        self._row_bytes = int(np.prod(rows.shape[1:])) * rows.dtype.itemsize
        self._data = (rows.folder / _ROWS).open("r+b", buffering=0)
        self._marks = (rows.folder / _SUMS).open("r+b", buffering=0)
        self._pending: dict[int, int] = {}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._settle()
        finally:
            self._data.close()
            self._marks.close()

    def write(self, index: Sequence[int] | Indices, values: Array) -> None:
        """Write rows ``index`` (k,) with ``values`` (k, ...) of the dtype of the file."""
        rows, size = self._rows, self._row_bytes
        flat = np.ascontiguousarray(values, dtype=rows.dtype).reshape(len(index), -1).view(np.uint8)
        if flat.shape[1] != size:
            raise ValueError(f"rows of {flat.shape[1]} bytes, expected {size}")
        for row, content in zip(np.asarray(index).tolist(), flat, strict=True):
            self._put(self._data.fileno(), content.data, self._start + row * size)
            self._pending[row] = _sum(content)
        if len(self._pending) * size >= PENDING_BYTES:
            self._settle()

    def _settle(self) -> None:
        """Force the rows to the disk, then record them: never the other way round."""
        self._refusable(lambda: os.fsync(self._data.fileno()))
        start = os.fstat(self._marks.fileno()).st_size - 4 * len(self._rows)
        for row, number in self._pending.items():
            self._put(self._marks.fileno(), np.uint32(number).tobytes(), start + 4 * row)
            self._rows._sums[row] = number
        self._pending.clear()

    def _put(self, file: int, content: bytes | memoryview, place: int) -> None:
        self._refusable(lambda: os.pwrite(file, content, place))

    def _refusable(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            raise OutputError(
                f"can not write the cache: {error.strerror}", where=self._rows.folder, todo=_FULL
            ) from error


def _allocate(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write the header of a .npy file and take the room of its rows now, so that a full disk shows before any work."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        file.flush()
        size = int(np.prod(shape)) * dtype.itemsize
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), file.tell(), size)
        else:  # macOS: a full disk shows when rows are written
            file.truncate(file.tell() + size)


def _sum(content: Array) -> int:
    return zlib.crc32(content.data) or 1  # 0 means: not written
