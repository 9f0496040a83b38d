"""The sparse parser of text tables: the same numbers as pandas reads, and errors that name the row."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stzoo.core.errors import DataError
from stzoo.plugins.readers._text_counts import read_counts

VALUES = st.one_of(st.just(0), st.integers(0, 99999), st.floats(0, 1e6, width=32))
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=("Cs", "Cc", "Z")), max_size=6
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[object]], str, bool]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    header = draw(st.lists(NAMES, min_size=columns, max_size=columns, unique=True))
    names = draw(st.lists(NAMES, min_size=rows, max_size=rows))
    header = [f"g{name}" for name in header]
    cells = [draw(st.lists(VALUES, min_size=columns, max_size=columns)) for _ in names]
    table = [["", *header], *([f"s{name}", *row] for name, row in zip(names, cells, strict=True))]
    return table, draw(st.sampled_from("\t,")), draw(st.booleans())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_what_was_written_is_read(tmp_path, drawn):
    table, sep, quoted = drawn
    text = io.StringIO()
    quoting = csv.QUOTE_NONNUMERIC if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=sep, quoting=quoting, lineterminator="\n").writerows(table)
    path = tmp_path / "t.txt"
    path.write_text(text.getvalue(), encoding="utf-8")
    found = read_counts(path, sep=sep)
    assert found.genes == table[0][1:]
    assert found.names == [row[0] for row in table[1:]]
    np.testing.assert_array_equal(found.x.toarray(), np.array([row[1:] for row in table[1:]], dtype=np.float32))
    assert (found.x.data != 0).all()


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_line_ends_and_byte_order_mark(tmp_path, eol, end):
    path = write(tmp_path / "t.csv", "\ufeff,A,B\ns1,0,12\ns2,3,0" + end)
    path.write_bytes(path.read_bytes().replace(b"\n", eol.encode()))
    found = read_counts(path, sep=",")
    assert (found.names, found.genes) == (["s1", "s2"], ["A", "B"])
    np.testing.assert_array_equal(found.x.toarray(), [[0, 12], [3, 0]])


def test_r_leaves_the_corner_out(tmp_path):
    found = read_counts(write(tmp_path / "t.tsv", "A\tB\ns1\t1\t2\n"), sep="\t")
    assert (found.names, found.genes) == (["s1"], ["A", "B"])


@pytest.mark.parametrize("at", [1, 2, 3])
def test_other_columns_may_stand_anywhere(tmp_path, at):
    head, row = ["", "A", "B"], ["s1", "4", "0"]
    head.insert(at, "place")
    row.insert(at, "7.5")
    path = write(tmp_path / "t.csv", ",".join(head) + "\n" + ",".join(row) + "\n")
    found = read_counts(path, sep=",", is_gene=lambda name: name != "place")
    assert (found.genes, found.about) == (["A", "B"], {"place": ["7.5"]})
    np.testing.assert_array_equal(found.x.toarray(), [[4, 0]])
    assert found.numbers("place", path) == [7.5]


def test_gzip_is_told_by_content(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(gzip.compress(b"\tA\ns1\t5\n"))
    assert read_counts(path, sep="\t").x[0, 0] == 5


def test_empty_fields_are_nan(tmp_path):
    assert np.isnan(read_counts(write(tmp_path / "t.csv", ",A,B\ns1,,2\n"), sep=",").x.toarray()[0, 0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "only 0 column"),
        (",A,B\n", "the table is empty"),
        (";A;B\ns1;1;2\n", "not comma-separated"),
        (",A,B\ns1,1,2\ns2,1\n", "row 's2' has 2 fields, expected 3"),
        (",A,B\ns1,1,2\ns2,1,2,3\n", "row 's2' has 4 fields, expected 3"),
        (",A,B\ns1,1,2\ns2,1,many\n", "column 'B' holds 'many', expected a count"),
        (",A,B\ns1,1,2 3\n", "column 'B' holds '2 3'"),
        (",A,B,A\ns1,1,2,3\n", "e.g. gene 'A'"),
        (",A,B\ns1,NA,2\n", "column 'A' holds 'NA'"),
        (",A\0,B\ns1,1,2\n", "zero bytes"),
    ],
)
def test_errors_name_the_file_and_the_row(tmp_path, text, says):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError) as raised:
        read_counts(path, sep=",")
    assert says in str(raised.value)
    assert str(path) in str(raised.value)


def test_memory_follows_the_entries_not_the_table(tmp_path):
    rng = np.random.default_rng(0)
    x = (rng.random((300, 5000)) < 0.01).astype(int)
    frame = pd.DataFrame(x, index=[f"s{i}" for i in range(300)], columns=[f"g{i}" for i in range(5000)])
    frame.to_csv(tmp_path / "t.tsv", sep="\t")
    tracemalloc.start()
    found = read_counts(tmp_path / "t.tsv", sep="\t")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.x.nnz == x.sum()
    assert peak < 300 * 5000 * 4 / 2  # half of what the dense float32 table would take
