"""The shape of the house: a kernel of twelve files, no circle of imports, tests that stand where the code stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

pytest.importorskip("grimp", reason="needs the extra 'dev'")

ROOT = Path(__file__).resolve().parents[1]
HOUSE = runpy.run_path(str(ROOT / ".ci" / "house.py"))
KERNEL = {
    *("errors", "config", "arrays", "model", "encoder", "imputer"),
    *("aligner", "reader", "tunable", "specs", "hookspecs", "registry"),
}


def folders(root: Path) -> set[str]:
    """Return the folders below a root that hold a Python file, at any depth, relative to it."""
    return {
        folder.relative_to(root).as_posix()
        for folder in root.rglob("*")
        if folder.is_dir() and folder.name != "__pycache__" and any(folder.glob("*.py"))
    }


def test_the_kernel_is_twelve_files_that_an_hour_suffices_for() -> None:
    files = sorted((ROOT / "core").glob("*.py"))
    assert {file.stem for file in files} == {*KERNEL, "__init__"}
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 1700


def test_no_modules_and_no_rooms_import_each_other_in_a_circle() -> None:
    assert HOUSE["circles"]({("a", "b"), ("b", "a"), ("b", "c")}) == [["a", "b"]]
    edges = HOUSE["import_edges"]()
    assert len(edges) > 500  # the whole package was seen
    assert HOUSE["circles"](edges) == []
    assert HOUSE["circles"](HOUSE["packages_of_core"](edges)) == []


@pytest.mark.parametrize("room", ["core", "plugins", "zoo", "cli"])
def test_tests_stand_where_the_code_stands(room: str) -> None:
    assert folders(ROOT / "tests" / room) - folders(ROOT / room) == set()


def test_every_room_of_core_has_tests() -> None:
    rooms = {folder for folder in folders(ROOT / "core") if "/" not in folder}
    tested = {file.parent.name for file in (ROOT / "tests" / "core").glob("*/test_*.py")}
    assert rooms - tested == set()


def test_what_tests_share_holds_no_tests() -> None:
    assert list((ROOT / "tests" / "helpers").rglob("test_*.py")) == []
    names = [file.stem for file in (ROOT / "tests" / "helpers").glob("*.py")]
    assert names  # each is a module at the top of the search path: none may stand before one of ours
    assert set(names) & {"core", "plugins", "zoo", "cli", "tests", "stzoo"} == set()
