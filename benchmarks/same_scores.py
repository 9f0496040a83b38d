"""Whether a change of the code changed a score: a few rows of each kind, through the command line, to the last bit.

Run ``PYTHON benchmarks/same_scores.py --checkout DIR --data FOLDER --out before.json`` with the Python of an
environment that has one version of stzoo, then ``... --out after.json --against before.json`` with that of the other.
Nothing of stzoo is imported: the versions may have nothing in common but their commands. Exits 1 where a score
differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
STZOO = Path(sys.executable).with_name("stzoo")
CLOCK = ("seconds", "s", "cpu_s")
"""Scores that are times."""
RUNS: dict[str, tuple[str, ...]] = {
    "her2st-c5-quick": (),
    "xenium-q1-50um": ("kriging", "s2s-st"),
    "her2st-c-2.5d": ("kriging", "st-dai"),
}
"""Rows of each protocol (all, where none is named); of those that hide spots one phase, and one seed."""


def main() -> int:
    """Run it all; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="sources of the version, which hold its protocols")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, Any] = {
            name: run(options.checkout, name, rows, options.data, Path(scratch)) for name, rows in RUNS.items()
        }
        found["demo"] = demo(Path(scratch))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text(encoding="utf-8"))
    for name, scores in found.items():
        print(f"{name}: {'the same to the last bit' if scores == before[name] else 'DIFFERS'} ({len(scores)} scores)")
    return int(found != before)


def run(checkout: Path, name: str, rows: tuple[str, ...], data: Path, scratch: Path) -> list[dict[str, Any]]:
    """Return the scores of a protocol cut down to some rows."""
    (file,) = (path for room in ("core", "plugins") for path in (checkout / room).rglob(f"protocols/{name}.yaml"))
    protocol = yaml.safe_load(file.read_text(encoding="utf-8"))
    if rows:
        protocol |= {"rows": [row for row in protocol["rows"] if row["name"] in rows], "seeds": protocol["seeds"][:1]}
        protocol["measured"] = protocol["measured"][:1]
        protocol["reference"] = rows[0]
    cut, out = scratch / f"{name}.yaml", scratch / f"{name}.json"
    cut.write_text(yaml.safe_dump(protocol, sort_keys=False), encoding="utf-8")
    subprocess.run([STZOO, "evaluate", cut, "--data", data, "--json", out], check=True, stdout=subprocess.DEVNULL)
    scores = json.loads(out.read_text(encoding="utf-8"))["scores"]
    return [{**score, **{key: without_clock(score[key]) for key in ("figures", "sd")}} for score in scores]


def without_clock(scores: dict[str, float]) -> dict[str, float]:
    """Return the scores without times."""
    return {key: value for key, value in scores.items() if key not in CLOCK}


def demo(scratch: Path) -> list[str]:
    """Return what ``stzoo demo`` prints of its prediction."""
    done = subprocess.run([STZOO, "demo", "--out", scratch / "demo"], check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "PCC" in line]


if __name__ == "__main__":
    sys.exit(main())
