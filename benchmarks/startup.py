"""How long the cheap commands take to start, beside python itself, and which heavy modules they import.

Run ``python benchmarks/startup.py`` in an environment with stzoo; it writes ``benchmarks/results/startup.json``. The
commands take turns, so that a busy moment of the machine falls on all of them; imports are read off
``python -X importtime``. With ``--against PYTHON``, that of an environment with another version of stzoo, both take
turns, and the ratio of their processor seconds is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stzoo.core.conformance.worker import HEAVY

RESULTS = Path(__file__).parent / "results" / "startup.json"
STZOO = Path(sys.executable).with_name("stzoo")
COMMANDS: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import torch'": ["-c", "import torch"],
    "python -c 'import stzoo'": ["-c", "import stzoo"],
    "stzoo --help": [str(STZOO), "--help"],
    "stzoo plugins list": [str(STZOO), "plugins", "list"],
    "stzoo zoo list": [str(STZOO), "zoo", "list"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    if options.against is not None:
        compare(options.against, options.runs)
        return
    for arguments in COMMANDS.values():
        run(arguments)  # files are in the page cache from here on
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.runs):
        for name, arguments in COMMANDS.items():
            seconds[name].append(run(arguments))
    rows = [row(name, seconds[name], heavy_imports(arguments)) for name, arguments in COMMANDS.items()]
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for r in rows:
        print(
            f"{r['command']:26s} median {r['median_s']:.3f} s  [{r['least_s']:.3f} .. {r['most_s']:.3f}]  {r['heavy']}"
        )


def compare(other: Path, runs: int) -> None:
    """Print how many processor seconds each command takes here and in another environment, pair by pair."""
    for name, arguments in COMMANDS.items():
        if "stzoo" not in name:
            continue
        there = [argument.replace(str(STZOO), str(other.with_name("stzoo"))) for argument in arguments]
        pairs = [(cpu_seconds(sys.executable, arguments), cpu_seconds(str(other), there)) for _ in range(runs + 1)][1:]
        here, before = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{name:26s} {here:.3f} s here, {before:.3f} s there, ratio {statistics.median(ratios):.2f} "
            f"[{ratios[0]:.2f} .. {ratios[-1]:.2f}] of {runs} pairs"
        )


def cpu_seconds(python: str, arguments: list[str]) -> float:
    """Return the processor seconds that ``PYTHON ARGUMENTS`` takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(arguments: list[str]) -> float:
    """Return the seconds that ``python ARGUMENTS`` takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def heavy_imports(arguments: list[str]) -> list[str]:
    """Return which of the heavy packages a command imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rsplit("|", 1)[1].strip() for line in lines}
    return [name for name in HEAVY if name in imported]


def row(name: str, seconds: list[float], heavy: list[str]) -> dict[str, Any]:
    return {
        "command": name,
        "runs": len(seconds),
        "median_s": round(statistics.median(seconds), 4),
        "least_s": round(min(seconds), 4),
        "most_s": round(max(seconds), 4),
        "heavy": heavy,
    }


if __name__ == "__main__":
    main()
