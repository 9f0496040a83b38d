"""Python blocks of the documentation run, page by page; commands it names exist."""

from __future__ import annotations

import json
import re
import runpy
import sys
import types
from pathlib import Path

import pytest
from stzoo.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROTOCOLS = {path.stem for path in (ROOT / "plugins" / "benchmarks" / "protocols").glob("*.yaml")}
RESULTS = [path.stem for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")) if path.stem in PROTOCOLS]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if page.name == "tutorial.md":  # it reads real tissue, by the address a user would type in the data folder
        (tmp_path / "her2st").symlink_to(request.getfixturevalue("shared_data") / "her2st")
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look up their annotations
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        exec(compile(block, str(page), "exec"), module.__dict__)


def test_every_command_is_named_in_the_readme_or_docs() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "CHANGELOG.md"])
    missing = [command for command in COMMANDS if not re.search(rf"`[^`]*\b{command}\b", text)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", RESULTS)
def test_pages_print_the_figures_of_the_last_evaluation(name: str) -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "readme_figures.py"))
    found = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    table = module["table"](found, module["SHOWN"].get(name, ()))
    mark = f"<!-- figures:{name} -->"
    assert sum(f"{mark}\n{table}\n{mark}" in page.read_text(encoding="utf-8") for page in PAGES) == 1
