"""Write docs/plugin-index.md from the entries, and docs/hooks.md from the hook specifications.

Run ``python index/render.py``; a test says when it was forgotten.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"wrote docs/{name}")


def pages() -> dict[str, str]:
    """Return the pages by name."""
    return {"plugin-index.md": index_page(entries()), "hooks.md": hooks_page()}


def entries() -> list[dict[str, Any]]:
    """Return the entries, validated.

    Raises
    ------
    SystemExit
        An entry does not fit the schema; every fault is named.
    """
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads((HERE / "schema.json").read_text(encoding="utf-8")))
    found, faults = [], []
    for file in sorted((HERE / "plugins").glob("*.yaml")):
        entry = yaml.safe_load(file.read_text(encoding="utf-8"))
        faults += [
            f"{file.name}: {'/'.join(map(str, e.path)) or '.'}: {e.message}" for e in validator.iter_errors(entry)
        ]
        if isinstance(entry, dict) and entry.get("distribution") != file.stem:
            faults.append(f"{file.name}: distribution is {entry.get('distribution')!r}, expected the name of the file")
        found.append(entry)
    if faults:
        sys.exit("\n".join(faults))
    return found


def index_page(found: list[dict[str, Any]]) -> str:
    """Return the index as a page."""
    text = "# Plugins\n\n*Made by `python index/render.py` from `index/plugins/`; how to add one: `index/README.md`.*\n"
    for entry in found:
        checked = entry["checked"]
        text += f"\n## {entry['distribution']}\n\n{entry['summary']}\n\n"
        text += f"`{entry.get('install', 'pip install ' + entry['distribution'])}` · {entry['license']} · "
        text += f"interface {entry['api']} · {entry['source']} · {', '.join(entry['maintainers'])}\n\n"
        text += f"Conformance: {checked['conformance']} ({checked['date']}, stzoo {checked['stzoo']})."
        text += f" {checked['notes']}\n\n" if checked.get("notes") else "\n\n"
        text += "| model | role | |\n|---|---|---|\n"
        text += "".join(f"| `{m['name']}` | {m['role']} | {m['summary']} |\n" for m in entry["models"])
    return text


def hooks_page() -> str:
    """Return the hook reference as a page: every hook, and every field of the records that it returns."""
    from stzoo.core import hookspecs
    from stzoo.core import specs as records

    text = "# Hooks\n\n*Made by `python index/render.py` from `core/hookspecs.py` and `core/specs.py`.*\n\n"
    text += _joined(inspect.getdoc(hookspecs) or "") + "\n"
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("stzoo_"):
            record = re.findall(r"(\w+Spec)\]", str(hook.__annotations__["return"]))[0]
            text += f"\n## `{name}() -> Iterable[{record}]`\n\n{_joined(inspect.getdoc(hook) or '')}\n"
            text += _fields(getattr(records, record))
    return text


def _fields(record: type) -> str:
    """Return the fields of a record as a table, from its docstring (numpy style)."""
    told = (inspect.getdoc(record) or "").partition("Parameters")[2]
    defaults = {f.name: f.default for f in dataclasses.fields(record)}
    rows = []
    for names, meaning in re.findall(r"^(\w+(?:, \w+)*)\n((?: {4}.*\n?)+)", told, re.MULTILINE):
        named = ", ".join(f"`{name}`" for name in names.split(", "))
        needed = "needed" if defaults[names.split(", ")[0]] is dataclasses.MISSING else ""
        rows.append(f"| {named} | {needed} | {_joined(meaning)} |\n")
    return "\n| field | | |\n|---|---|---|\n" + "".join(rows)


def _joined(text: str) -> str:
    """Return paragraphs as single lines, and reST's double backticks and roles as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    main()
