"""Reading and writing stack files (ruamel.yaml: lines for errors, comments kept) beside plain PyYAML, in one run.

``python benchmarks/stack_yaml.py`` writes ``benchmarks/results/stack_yaml.json``. PyYAML is the floor: it knows no
lines and drops comments. ``ratio`` is CPU seconds over the floor's, each the best of ROUNDS that take turns.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from stzoo.core.io.stack_file import StackEntry, StackFile, load_stack_file, write_stack_file
from stzoo.core.io.yaml_lines import Lines

RESULTS = Path(__file__).parent / "results" / "stack_yaml.json"
SIZES, ROUNDS = (2, 30, 500), 3


def main() -> None:
    rows = [row for size in SIZES for row in compare(size)]
    machine = {"python": platform.python_version()}
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['sections']:4d} sections, {row['job']:5s} {row['ms']:8.2f} ms, floor {row['floor_ms']:7.2f} ms, "
              f"ratio {row['ratio']:.1f}")  # fmt: skip


def compare(size: int) -> list[dict[str, Any]]:
    """Return a row for reading and one for writing a stack of so many sections."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number in range(size):
            (folder / f"s{number}.h5ad").touch()
        entries = [StackEntry(name=f"s{n}", source=f"s{n}.h5ad", measured="grid:2") for n in range(size)]
        plain = {"sample": "t", "spacing_um": 16, "sections": [{**vars(one)} for one in entries]}
        path, floor = folder / "stack.yaml", folder / "floor.yaml"
        written = write_stack_file(StackFile("t", 16.0, tuple(entries), Lines(path)), path)
        jobs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "read": (lambda: load_stack_file(written), lambda: yaml.safe_load(written.read_text(encoding="utf-8"))),
            "write": (
                lambda: write_stack_file(StackFile("t", 16.0, tuple(entries), Lines(path)), path, overwrite=True),
                lambda: floor.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8"),
            ),
        }
        rows = []
        for job, pair in jobs.items():
            ours, theirs = (
                min(times) for times in zip(*[[seconds(one) for one in pair] for _ in range(ROUNDS)], strict=True)
            )
            ratio = round(ours / theirs, 2)
            rows.append({"sections": size, "job": job, "ms": ours * 1e3, "floor_ms": theirs * 1e3, "ratio": ratio})
        return rows


def seconds(job: Callable[[], object]) -> float:
    """Return the CPU seconds of a job."""
    start = time.process_time()
    job()
    return time.process_time() - start


if __name__ == "__main__":
    main()
