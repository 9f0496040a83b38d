"""The CSV log of a training run: a row a step, and after a resume no row twice."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stzoo.core.errors import OutputError
from stzoo.core.output import writing


class _Log:
    """A CSV file with a row a step; its columns are those of the first row."""

    def __init__(self, path: Path, start: int) -> None:
        kept = _rows_before(path, start)
        self._columns = list(kept[0]) if kept else []
        with writing(path, overwrite=True) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if kept:
                writer.writeheader()
            writer.writerows(kept)
        self._path = path
        self._file = path.open("a", newline="", encoding="utf-8", buffering=1)

    def __call__(self, row: Mapping[str, float]) -> None:
        if not self._columns:
            self._columns = list(row)
            self._write(self._columns)
        self._write([row[name] for name in self._columns])

    def _write(self, values: list[Any]) -> None:
        try:
            csv.writer(self._file).writerow(values)
        except OSError as error:
            raise OutputError(f"can not write the log: {error.strerror}", where=self._path) from error

    def close(self) -> None:
        self._file.close()


@contextmanager
def training_log(path: Path, start: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yield a function that appends a row; rows from step ``start`` on, which a resumed run takes again, go.

    Raises
    ------
    OutputError
        The disk refuses it.
    """
    log = _Log(path, start)
    try:
        yield log
    finally:
        log.close()


def _rows_before(path: Path, start: int) -> list[dict[str, str]]:
    """Return the rows of the steps before ``start``; a row that a kill cut short has no place among them."""
    if start == 0 or not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) < start]
