from __future__ import annotations

import errno
import os

import pytest
from stzoo.core.errors import OutputError
from stzoo.core.runtime.outputs import check_output, writing


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


def test_an_output_appears_whole_with_the_folders_above_it(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with writing(path) as scratch:
        assert scratch.suffix == ".txt"
        scratch.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert leftovers(path.parent) == ["c.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failed_run_leaves_what_was_there(tmp_path, kind):
    path = tmp_path / "out"
    for content in ("old", "new"):
        try:
            with writing(path, overwrite=True) as scratch:
                target = scratch
                if kind == "folder":
                    scratch.mkdir()
                    target = scratch / "part"
                target.write_text(content)
                if content == "new":
                    raise RuntimeError("cut")
        except RuntimeError:
            pass
    assert (path if kind == "file" else path / "part").read_text() == "old"
    assert leftovers(tmp_path) == ["out"]


def test_a_block_that_writes_nothing_loses_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("old")
    with pytest.raises(FileNotFoundError, match="nothing was written"), writing(tmp_path / "out", overwrite=True):
        pass
    assert (tmp_path / "out" / "kept").read_text() == "old"


def test_nothing_is_overwritten_without_being_asked(tmp_path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(OutputError, match="--overwrite"), writing(tmp_path / "out"):
        raise AssertionError("the block must not run")
    with writing(tmp_path / "out", overwrite=True) as scratch:
        scratch.write_text("new")
    assert (tmp_path / "out").read_text() == "new"


def test_two_programs_that_write_one_output_do_not_overwrite_each_other(tmp_path):
    path = tmp_path / "out"
    mine = writing(path)
    mine.__enter__().write_text("mine")
    path.write_text("theirs")
    with pytest.raises(OutputError, match="made by another program"):
        mine.__exit__(None, None, None)
    assert path.read_text() == "theirs"


def test_a_folder_is_replaced_by_a_folder_only(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is a folder"), writing(tmp_path / "out", overwrite=True) as scratch:
        scratch.write_text("a file")
    assert (tmp_path / "out" / "thesis.txt").exists()
    with writing(tmp_path / "out", overwrite=True) as scratch:
        scratch.mkdir()
    assert leftovers(tmp_path) == ["out"]
    assert leftovers(tmp_path / "out") == []


def test_the_working_folder_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    for path in (tmp_path, tmp_path / "inside", "."):
        with pytest.raises(OutputError, match="the folder you are in"):
            check_output(path, overwrite=True)


def test_an_output_that_can_not_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can not write"):
        check_output(tmp_path / "file" / "out.h5ad", overwrite=False)
    with pytest.raises(OutputError, match="can not write"):
        check_output(tmp_path / ("x" * 300), overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="may write to"):
        check_output(tmp_path / "locked" / "out.h5ad", overwrite=False)


def fail_while_writing(path, error):
    with writing(path) as scratch:
        scratch.write_text("half")
        raise error(scratch)


def test_a_full_disk_is_an_error_of_the_output(tmp_path):
    with pytest.raises(OutputError, match="No space left"):
        fail_while_writing(tmp_path / "out", lambda s: OSError(errno.ENOSPC, "No space left on device", str(s)))
    assert leftovers(tmp_path) == []


def test_an_input_that_fails_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(PermissionError):
        fail_while_writing(tmp_path / "out", lambda s: PermissionError(errno.EACCES, "no", str(tmp_path / "input.h5")))
    assert leftovers(tmp_path) == []
