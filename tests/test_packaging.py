"""One distribution out of top-level folders: nothing forgotten, nothing extra, nothing imported twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest
import stzoo.core

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "plugins", "zoo", "cli")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
REINSTALL = "run: pip install --no-deps -e ."


def packages_on_disk() -> set[str]:
    """Every folder of the rooms that has an ``__init__.py``, under its name in the distribution."""
    found = (init.parent.relative_to(ROOT) for room in ROOMS for init in (ROOT / room).rglob("__init__.py"))
    return {"stzoo"} | {f"stzoo.{'.'.join(folder.parts)}" for folder in found}


def folder_of(package: str) -> Path:
    return ROOT / "src" / "stzoo" if package == "stzoo" else ROOT.joinpath(*package.split(".")[1:])


def data_files() -> set[PurePosixPath]:
    """Every file that pyproject.toml declares as package data, under its name in the distribution."""
    found = set()
    for package, patterns in SETUPTOOLS["package-data"].items():
        home = PurePosixPath(*package.split("."))
        for pattern in patterns:
            matches = (path for path in folder_of(package).glob(pattern) if path.is_file())
            found |= {home / path.relative_to(folder_of(package)).as_posix() for path in matches}
    return found


def modules() -> set[PurePosixPath]:
    """Every module of the packages, under its name in the distribution."""
    return {
        PurePosixPath(*package.split(".")) / path.name
        for package in packages_on_disk()
        for path in folder_of(package).glob("*.py")
    }


def test_every_package_is_listed_in_pyproject():
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_on_disk())


def test_no_module_lies_in_a_folder_that_is_no_package():
    python = {path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    orphans = {path.relative_to(ROOT) for path in python if not (path.parent / "__init__.py").exists()}
    assert not orphans, f"an __init__.py is missing beside {sorted(map(str, orphans))}"


def test_data_in_a_package_is_declared():
    ignored = {".py", ".pyc"}
    present = {
        PurePosixPath("stzoo", path.relative_to(ROOT).as_posix())
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in ignored and "__pycache__" not in path.parts
    }
    undeclared = present - data_files()
    assert not undeclared, f"add to [tool.setuptools.package-data]: {sorted(map(str, undeclared))}"


def test_nothing_at_the_root_shadows_the_package():
    assert not (ROOT / "__init__.py").exists()
    assert not (ROOT / "stzoo").exists()
    assert sorted(path.name for path in (ROOT / "src" / "stzoo").iterdir() if path.name != "__pycache__") == [
        "__init__.py",
        "py.typed",
    ]


def test_the_editable_install_knows_every_file():
    tree = Path(stzoo.core.__file__).parents[1]
    if ROOT not in tree.parents or "__editable__" not in str(tree):
        pytest.skip("this is no editable install of this checkout")
    installed = {
        PurePosixPath("stzoo", path.relative_to(tree).as_posix())
        for path in tree.rglob("*")
        if (path.is_file() or path.is_symlink()) and "__pycache__" not in path.parts
    }
    expected = modules() | data_files()
    dangling = {path for path in tree.rglob("*") if path.is_symlink() and not path.exists()}
    assert not expected - installed, f"not installed: {sorted(map(str, expected - installed))}; {REINSTALL}"
    assert not (installed - expected) | dangling, f"gone: {sorted(map(str, installed - expected))}; {REINSTALL}"


def test_the_entry_points_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {point.name: point.value for point in distribution("stzoo").entry_points if point.group == "stzoo"}
    assert found == project["entry-points"]["stzoo"], REINSTALL


def test_no_room_is_imported_by_its_folder_name():
    code = (
        "import importlib, sys, stzoo, stzoo.cli.main, stzoo.core.discovery.manager as p\n"
        "p.default_manager()\n"
        "for name in stzoo.__all__: getattr(stzoo, name)\n"
        f"twice = set(sys.modules) & set({ROOMS!r})\n"
        "assert not twice, twice"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of a copy of the tracked files: no stale ``build/``, no network."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the list of files comes from git")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    source = tmp_path_factory.mktemp("source")
    for name in filter(None, map(os.fsdecode, listed)):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {PurePosixPath(name) for name in wheel.namelist() if not name.endswith("/")}
    tops = {name.parts[0] for name in names}
    version = distribution("stzoo").version
    assert tops == {"stzoo", f"stzoo-{version}.dist-info"}
    assert {name for name in names if name.parts[0] == "stzoo"} == modules() | data_files()


@pytest.mark.slow
def test_the_wheel_runs_from_anywhere(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import stzoo, sys; from stzoo.cli.main import run; from stzoo.core.discovery.manager import default_manager\n"
        "assert stzoo.__file__.startswith(sys.argv[1]), stzoo.__file__\n"
        "states = {p.name: p.state for p in default_manager().plugins if p.dist == 'stzoo'}\n"
        "assert states and set(states.values()) == {'loaded'}, states\n"
        "assert run(['plugins', 'list', '--strict']) == 0"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code, str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
