"""Every broken input gets one screen that names file or field and the next step, and leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import layouts
import pytest
from bad_inputs_data import CASES, EXPECTED

NOBODY = 65534


def test_the_table_is_long_enough_and_names_each_case_once():
    assert len(CASES) == len(EXPECTED) >= 20


@pytest.mark.parametrize(("name", "builder"), CASES, ids=[name for name, _ in CASES])
def test_bad_input(stzoo, tmp_path, name, builder):
    arguments = builder(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    outcome = stzoo(*arguments)
    assert outcome.code in (1, 2)
    assert outcome.out == ""
    for text in EXPECTED[name]:
        assert text in outcome.err
    assert outcome.err.startswith("error: ")
    assert "bug in stzoo" not in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) < 20
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def nobody() -> Iterator[Callable[[], None]]:
    """A function after which files are read as somebody without rights (root may read everything)."""
    if os.name != "posix":
        pytest.skip("file permissions are those of POSIX")
    me = os.geteuid()
    yield lambda: os.seteuid(NOBODY) if me == 0 else None
    os.seteuid(me)


@pytest.mark.parametrize("part", [".", "counts", "counts/C5.tsv.gz"])
def test_unreadable_permissions(stzoo, nobody, part):
    with tempfile.TemporaryDirectory() as root:
        folder = layouts.her2st(Path(root) / "set")
        Path(root).chmod(0o755)
        assert stzoo("data", "inspect", folder).code == 0  # so that all is imported
        (folder / part).chmod(0)
        nobody()
        outcome = stzoo("data", "inspect", folder)
        os.seteuid(os.getuid())
        (folder / part).chmod(0o755)
    assert outcome.code == 1
    assert "Permission denied" in outcome.err
    assert "check its permissions" in outcome.err or "check the permissions" in outcome.err
    assert str(folder) in outcome.err


def test_what_stood_there_stays(stzoo, tmp_path):
    out = Path(tmp_path / "out.h5ad")
    out.write_text("precious")
    folder = layouts.her2st(tmp_path / "set")
    outcome = stzoo("data", "convert", folder, out)
    assert (outcome.code, out.read_text()) == (1, "precious")
    assert "--overwrite" in outcome.err
    (folder / "spots" / "C5_selection.tsv").unlink()
    assert stzoo("data", "convert", folder, out, "--overwrite").code == 1
    assert out.read_text() == "precious"
