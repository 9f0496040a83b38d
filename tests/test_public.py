"""The public face: what pages, template, examples and shipped plugins import is ``stzoo.<name>`` or a toolkit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLKITS = {f"stzoo.core.{name}" for name in ("nn", "gp", "training", "metrics", "slides")}
PAGES = [
    *[ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    *sorted(path for end in ("py", "md") for path in (ROOT / "examples").rglob(f"*.{end}")),
    *sorted((ROOT / "core" / "authoring" / "template").rglob("*.jinja")),
    *sorted((ROOT / "plugins").glob("*/__init__.py")),
]
IMPORT = re.compile(r"^[ \t]*(?:from (stzoo[\w.]*) import (\([^)]*\)|[^\n#]+)|import (stzoo[\w.]+))", re.MULTILINE)


def names_of(text: str) -> list[str]:
    return [name.split(" as ")[0].strip() for name in text.strip("()").replace("\n", " ").split(",") if name.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_plugins_import_the_public_face_alone(page: Path) -> None:
    for module, names, whole in IMPORT.findall(page.read_text(encoding="utf-8")):
        assert not whole, f"import {whole}: write import stzoo"
        if module.startswith("stzoo_"):
            continue  # the example's own package
        assert module == "stzoo" or module in TOOLKITS, f"{module} may change: import stzoo.NAME or a toolkit"
        offered = import_module(module).__all__
        assert set(names_of(names)) <= set(offered), f"{module} does not list {set(names_of(names)) - set(offered)}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_pages_name_nothing_below_core_but_the_toolkits(page: Path) -> None:
    for name in re.findall(r"stzoo\.core\.[\w.]*\w", page.read_text(encoding="utf-8")):
        toolkit = next((one for one in TOOLKITS if name == one or name.startswith(f"{one}.")), None)
        assert toolkit, f"{name} may change: name stzoo.NAME or a toolkit"
        assert name == toolkit or name.removeprefix(f"{toolkit}.") in import_module(toolkit).__all__


@pytest.mark.parametrize("module", ["stzoo", *sorted(TOOLKITS)])
def test_every_name_is_there_and_known_to_type_checkers(module: str) -> None:
    package = import_module(module)
    for name in package.__all__:
        assert getattr(package, name) is not None
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    typed = {
        (alias.name, str(node.module))
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = vars(package)["_HOMES"]
    full = {(name, home if module == "stzoo" else f"{module}.{home}") for name, home in homes.items()}
    assert typed == full
    with pytest.raises(AttributeError, match="no-such-name"):
        getattr(package, "no-such-name")


def test_no_name_of_a_toolkit_is_hidden_by_a_module() -> None:
    for module in TOOLKITS:
        package = import_module(module)
        modules = {path.stem for path in Path(str(package.__file__)).parent.glob("*.py")}
        assert not modules & set(package.__all__)


def test_importing_stzoo_and_the_toolkits_is_instant() -> None:
    code = (
        f"import sys, stzoo, {', '.join(sorted(TOOLKITS))}\nprint({{'torch', 'numpy', 'anndata'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
