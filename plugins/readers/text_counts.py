"""Text tables of spots x genes, read row by row into a sparse matrix: never dense, and a damaged row names itself."""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from stzoo import DataError

_SEPARATORS = {"\t": "tab", ",": "comma"}
_MOST_HEADER = 1 << 24
_GZIP = b"\x1f\x8b"

_Entries = tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class TextCounts:
    """What a text table of counts holds.

    Parameters
    ----------
    names
        First field of each row.
    genes
        Names of the columns of ``x``.
    x
        float32 CSR (rows, genes); empty fields are NaN.
    about
        The other columns, as text.
    """

    names: list[str]
    genes: list[str]
    x: Any
    about: dict[str, list[str]]

    def numbers(self, column: str, path: Path) -> npt.NDArray[np.float64]:
        """Return one of the other columns as float64 (rows,).

        Raises
        ------
        DataError
            A field is not a number; the row is named.
        """
        out = np.empty(len(self.names))
        for row, text in enumerate(self.about[column]):
            try:
                out[row] = float(text)
            except ValueError as error:
                raise DataError(
                    f"column '{column}' holds '{text}', expected a number",
                    where=f"{path}, row '{self.names[row]}'",
                    todo="correct the field, or leave the row out",
                ) from error
        return out


def read_counts(path: Path, *, sep: str, is_gene: Callable[[str], bool] = lambda name: True) -> TextCounts:
    """Read a table whose first column names the spots and whose other columns are counts of genes.

    Parameters
    ----------
    path
        A text file, gzipped or not.
    sep
        A tab or a comma.
    is_gene
        Whether a column holds counts; by default all but the first do.

    Raises
    ------
    DataError
        The file is missing, cut off or not text, has another delimiter, a gene twice, a row of another length, or
        a field that is not a number.
    """
    with _reading(path), open_text(path) as file:
        lines = (line.rstrip(b"\r\n") for line in file)
        header = read_header(path, next(lines, b""), sep)
        first = next((line for line in lines if line), None)
        if first is None:
            raise DataError(f"the table is empty: no row below {len(header)} columns", where=path)
        if _n_fields(first, sep) == len(header) + 1:  # R leaves out the name of the column of row names
            header = ["", *header]
        table = _Table.of(path, sep, header, is_gene)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's way to say that a field is no number
            table.add(first)
            for line in lines:
                if line:
                    table.add(line)
    return table.finish()


def column_names(path: Path, *, sep: str) -> list[str]:
    """Return the names of the columns of a text table; only its first line is read.

    Parameters
    ----------
    path, sep
        A text file, gzipped or not, and its delimiter.

    Raises
    ------
    DataError
        The file can not be read, or starts with no header.
    """
    with _reading(path), open_text(path) as file:
        return read_header(path, file.readline(_MOST_HEADER).rstrip(b"\r\n"), sep)


def open_text(path: Path) -> IO[bytes]:
    """Open a text file for reading bytes, through gzip where its content is gzip.

    Raises
    ------
    DataError
        The file is missing or may not be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}", todo="check that the folder is complete") from error
    except OSError as error:
        raise DataError(f"can not read the file: {error.strerror}", where=path, todo="check its permissions") from error
    if file.peek(2)[:2] == _GZIP:
        file.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix == ".gz":
        file.close()
        raise DataError("the name ends in .gz, but the content is not gzip", where=path, todo="download it again")
    return file


def read_header(path: Path, line: bytes, sep: str, *, unique: bool = True) -> list[str]:
    """Return the fields of the first line, or refuse a line that can not start a table.

    Parameters
    ----------
    path, line, sep
        The file (for the message), its first line, and the delimiter.
    unique
        Whether the fields are names of columns, which may not stand twice.

    Raises
    ------
    DataError
        Not text, one column only, or a name that stands twice.
    """
    if b"\0" in line:
        raise DataError("not a text file: it holds zero bytes", where=path, todo="save the table as UTF-8 text")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not a text file: it is not UTF-8", where=path, todo="save the table as UTF-8 text") from error
    names = next(csv.reader([text], delimiter=sep), [])
    if len(names) < 2:
        start = text[:40] + ("..." if len(text) > 40 else "")
        raise DataError(
            f"only {len(names)} column found, so it is not {_SEPARATORS[sep]}-separated: '{start}'",
            where=f"{path}, row 1",
            todo=f"save the table with {_SEPARATORS[sep]}s between the fields",
        )
    seen: set[str] = set()
    twice = [name for name in names if unique and (name in seen or seen.add(name))]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(
            f"{len(twice)} columns stand more than once, e.g. gene '{twice[0]}'",
            where=f"{path}, row 1",
            todo="give every gene one column: rename or sum the others",
        )
    return names


class _reading:  # noqa: N801 - a context manager, used like a function
    """Turns what a damaged file raises into one message."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise DataError(
                f"the gzip file is cut off or damaged: {error}", where=self.path, todo="copy or download it again"
            ) from error
        if isinstance(error, UnicodeDecodeError):
            raise DataError(
                "not a text file: it is not UTF-8", where=self.path, todo="save the table as UTF-8 text"
            ) from error
        if isinstance(error, OSError | csv.Error):
            raise DataError(f"can not read the file: {error}", where=self.path, todo="copy it again") from error


@dataclass
class _Table:
    path: Path
    sep: str
    header: list[str]
    gene: npt.NDArray[np.bool_]
    lead: int
    cell: re.Pattern[bytes]
    names: list[str] = field(default_factory=list)
    about: list[list[str]] = field(default_factory=list)
    values: list[npt.NDArray[np.float32]] = field(default_factory=list)
    columns: list[npt.NDArray[np.int32]] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, sep: str, header: list[str], is_gene: Callable[[str], bool]) -> _Table:
        gene = np.array([i > 0 and is_gene(name) for i, name in enumerate(header)])
        lead = int(np.flatnonzero(~gene)[-1]) + 1  # fields up to the last that is no gene are taken one by one
        mark = re.escape(sep.encode())
        return cls(path, sep, header, gene, lead, re.compile(rb'(?:"((?:[^"]|"")*)"|([^%b]*))(?:%b|$)' % (mark, mark)))

    def add(self, line: bytes) -> None:
        mixed = bool(self.gene[1 : self.lead].any())  # a gene stands before the last column that is none
        lead, rest = ([], b"") if mixed else self._lead(line)
        found = None if mixed else self._nonzero(rest)
        if found is None:
            lead, found = self._slow(line)
        self.names.append(lead[0])
        self.about.append([text for text, gene in zip(lead[1:], self.gene[1:], strict=False) if not gene])
        self.columns.append(found[0].astype(np.int32))
        self.values.append(found[1])

    def _lead(self, line: bytes) -> tuple[list[str], bytes]:
        at = 0
        out: list[str] = []
        while len(out) < self.lead and at <= len(line):
            found = self.cell.match(line, at)
            if found is None:
                break
            quoted, plain = found.groups()
            out.append((plain if quoted is None else quoted.replace(b'""', b'"')).decode("utf-8"))
            ends = found.end() == len(line) and not line.endswith(self.sep.encode())
            at = found.end() + ends  # past the end: there is no further field
        if len(out) < self.lead:
            self._refuse_length(len(out), out[0] if out else "?")
        return out, line[at:]

    def _nonzero(self, rest: bytes) -> _Entries | None:
        # Most fields are a lone "0": they are found by looking at the bytes, and only the others are parsed.
        data = np.frombuffer(rest, dtype=np.uint8)
        cuts = np.flatnonzero(data == ord(self.sep))
        starts, ends = np.append(0, cuts + 1), np.append(cuts, len(data))
        if len(starts) != len(self.header) - self.lead or (starts == ends).any():
            return None
        at = np.flatnonzero((ends - starts > 1) | (data[starts] != ord("0")))
        text = b" ".join([rest[i:j] for i, j in zip(starts[at].tolist(), ends[at].tolist(), strict=True)])
        try:
            values = np.fromstring(text, dtype=np.float32, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
        return (at, values) if len(values) == len(at) else None

    def _slow(self, line: bytes) -> tuple[list[str], _Entries]:
        # Field by field: numbers in quotes, empty fields, genes on both sides of other columns - or an error to name.
        fields = next(csv.reader([line.decode("utf-8")], delimiter=self.sep))
        if len(fields) != len(self.header):
            self._refuse_length(len(fields), fields[0])
        row = np.array([self._float(int(i), fields) for i in np.flatnonzero(self.gene)], dtype=np.float32)
        at = np.flatnonzero(row)  # NaN is kept: the checks name it
        return fields, (at, row[at])

    def _float(self, column: int, fields: list[str]) -> float:
        text = fields[column].strip()
        try:
            return float(text) if text else float("nan")
        except ValueError as error:
            raise DataError(
                f"column '{self.header[column]}' holds '{text[:40]}', expected a count",
                where=f"{self.path}, row '{fields[0]}'",
                todo="give a number in every field",
            ) from error

    def _refuse_length(self, found: int, name: str) -> None:
        raise DataError(
            f"row '{name[:40]}' has {found} fields, expected {len(self.header)}",
            where=f"{self.path}, row {len(self.names) + 2}",
            todo="copy the file again if it was cut off, or correct the row",
        )

    def finish(self) -> TextCounts:
        from scipy.sparse import csr_matrix

        indptr = np.concatenate([[0], np.cumsum([len(row) for row in self.values])])
        shape = (len(self.names), int(self.gene.sum()))
        x = csr_matrix((np.concatenate(self.values), np.concatenate(self.columns), indptr), shape=shape)
        x.eliminate_zeros()  # "0.0" was parsed as a number
        others = [name for name, gene in zip(self.header[1:], self.gene[1:], strict=True) if not gene]
        about = {name: list(column) for name, column in zip(others, zip(*self.about, strict=True), strict=True)}
        genes = [name for name, gene in zip(self.header, self.gene, strict=True) if gene]
        return TextCounts(self.names, genes, x, about)


def _n_fields(line: bytes, sep: str) -> int:
    if b'"' not in line:
        return line.count(sep.encode()) + 1
    return len(next(csv.reader([line.decode("utf-8")], delimiter=sep)))
