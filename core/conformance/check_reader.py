"""Checks of readers: recognising is cheap and safe, since every reader is asked about every path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import ConformanceError, check, refusal
from stzoo.core.discovery.manager import resolve
from stzoo.core.reader import Reader

_SUFFIXES = (".txt", ".csv", ".csv.gz", ".tsv.gz", ".h5", ".h5ad", ".parquet", ".json", ".tif")


def _reader(case: CheckContext) -> Reader:
    found: Reader = resolve(case.record.target)()
    return found


@check("reader")
def record_leads_to_the_reader(case: CheckContext) -> None:
    """The record names a subclass of Reader whose format is the record's name."""
    found = resolve(case.record.target)
    if not (isinstance(found, type) and issubclass(found, Reader)):
        raise ConformanceError(f"'{case.record.target}' is no Reader", "subclass stzoo.core.reader.Reader")
    if getattr(found, "format", None) != case.record.name:
        raise ConformanceError(
            f"its format is {getattr(found, 'format', None)!r}", f"set format = '{case.record.name}'"
        )


@check("reader")
def recognises_without_reading(case: CheckContext) -> None:
    """``recognises`` says yes or no to anything, an absent path, a folder, junk of any suffix, and never raises."""
    reader = _reader(case)
    with _junk() as paths:
        for path in paths:
            try:
                found = reader.recognises(path)
            except Exception as error:
                raise ConformanceError(
                    f"recognises({path.name!r}) raised {type(error).__name__}: {error}", "return False"
                ) from error
            if not isinstance(found, bool):
                raise ConformanceError(f"recognises({path.name!r}) returned {found!r}", "return True or False")
            if found and (not path.exists() or (path.is_dir() and not any(path.iterdir()))):
                raise ConformanceError(
                    f"recognises({path.name!r}) is true, and nothing is there", "look at names and headers"
                )


@check("reader")
def junk_is_refused(case: CheckContext) -> None:
    """What is recognised by its name and turns out to be junk is refused with a clear error, never a crash."""
    reader = _reader(case)
    with _junk() as paths:
        for path in filter(reader.recognises, paths):
            refusal(partial(_first_section, reader, path), f"junk called {path.name!r}")


def _first_section(reader: Reader, path: Path) -> None:
    names = reader.sections(path)
    if names:
        reader.read(path, names[0])


@contextmanager
def _junk() -> Iterator[list[Path]]:
    """Make paths that are no section: absent, an empty folder, noise and a line of text under many suffixes."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        empty, full = root / "empty", root / "full"
        empty.mkdir()
        full.mkdir()
        (full / "notes.txt").write_text("nothing of interest\n", encoding="utf-8")
        files = []
        for suffix in _SUFFIXES:
            for kind, content in (("noise", bytes(range(256)) * 8), ("text", b"some,header\n1,2\n"), ("void", b"")):
                files.append(root / f"{kind}{suffix}")
                files[-1].write_bytes(content)
        yield [root / "absent", root / "absent.h5ad", empty, full, *files]
