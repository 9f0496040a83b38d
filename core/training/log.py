"""The CSV log of a training run: a row a step, and after a resume no row twice."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from stzoo.core.errors import OutputError
from stzoo.core.runtime.outputs import writing


class _Log:
    """A CSV file with a row a step; its columns are those of the first row."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._kept = _rows_before(path, start)
        self._columns = list(self._kept[0]) if self._kept else []
        if path.exists():
            self._open()

    def __call__(self, row: Mapping[str, float]) -> None:
        if self._file is None:
            self._open()
        if not self._columns:
            self._columns = list(row)
            self._write(self._columns)
        self._write([row[name] for name in self._columns])

    def _open(self) -> None:
        """Write the rows that stay to a new file, and append to that."""
        with writing(self._path, overwrite=True) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if self._kept:
                writer.writeheader()
            writer.writerows(self._kept)
        self._file = self._path.open("a", newline="", encoding="utf-8", buffering=1)

    def _write(self, values: list[Any]) -> None:
        assert self._file is not None
        try:
            csv.writer(self._file).writerow(values)
        except OSError as error:
            raise OutputError(f"can not write the log: {error.strerror}", where=self._path) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def training_log(path: Path, start: int, *, active: bool = True) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yield a function that appends a row; rows from step ``start`` on, which a resumed run takes again, go.

    Parameters
    ----------
    path
        The CSV file; it is made with the first row.
    start
        The first value of the column ``step`` that is to come.
    active
        False on a rank that does not write: the function does nothing.

    Raises
    ------
    OutputError
        The disk refuses it.
    """
    if not active:
        yield lambda row: None
        return
    log = _Log(path, start)
    try:
        yield log
    finally:
        log.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a log; a row that a kill cut short is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit() and None not in row.values()]


def _rows_before(path: Path, start: int) -> list[dict[str, str]]:
    """Return the rows of the steps before ``start``."""
    return [row for row in read_log(path) if int(row["step"]) < start]
