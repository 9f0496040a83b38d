"""The shape of the house: lines a package, files at the top of core, circles of imports. Exits 1 on a circle.

Run ``python .ci/house.py`` in an environment with stzoo's ``dev`` extra. Imports inside functions and under
``TYPE_CHECKING`` count like any other.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import grimp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "plugins", "zoo", "cli", "src", "tests")


def circles(edges: set[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of names that import each other in a loop."""
    names = sorted({name for edge in edges for name in edge})
    place = {name: i for i, name in enumerate(names)}
    rows, columns = ([place[edge[side]] for edge in edges] for side in (0, 1))
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    _, label = connected_components(graph, directed=True, connection="strong")
    groups: dict[int, list[str]] = defaultdict(list)
    for name, group in zip(names, label, strict=True):
        groups[int(group)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def import_edges() -> set[tuple[str, str]]:
    """Return who imports whom among the modules of stzoo, deferred and typing-only imports included."""
    graph = grimp.build_graph("stzoo", cache_dir=None)
    return {(one, other) for one in graph.modules for other in graph.find_modules_directly_imported_by(one)}


def packages_of_core(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the same between the rooms of core; a file of the kernel is a room of its own."""
    rooms = (tuple(".".join(name.split(".")[:3]) for name in edge) for edge in edges)
    return {(a, b) for a, b in rooms if a != b and a.startswith("stzoo.core.") and b.startswith("stzoo.core.")}


def line_counts() -> dict[str, tuple[int, int]]:
    """Return files and lines of Python by folder; the plugins folder by folder, core's top apart from its rooms."""
    counts: dict[str, tuple[int, int]] = {}
    for path in sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts):
        parts = path.relative_to(ROOT).parts
        folder = "/".join(parts[:2]) if parts[0] in ("core", "plugins") and len(parts) > 2 else parts[0]
        files, lines = counts.get(folder, (0, 0))
        counts[folder] = files + 1, lines + len(path.read_text(encoding="utf-8").splitlines())
    return counts


def main() -> int:
    """Print it all; return the exit status."""
    for folder, (files, lines) in line_counts().items():
        print(f"{folder:28s} {files:4d} files {lines:7,d} lines")
    edges = import_edges()
    found = circles(edges)
    loops = circles(packages_of_core(edges))
    for group in found:
        print("circle of modules:", ", ".join(group))
    for group in loops:
        print("circle of rooms of core:", ", ".join(group))
    print(f"{len(found)} circles of modules, {len(loops)} circles of rooms of core")
    return 1 if found or loops else 0


if __name__ == "__main__":
    sys.exit(main())
