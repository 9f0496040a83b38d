"""How long the cheap commands take to start, beside python itself, and which heavy modules they import.

Run ``python benchmarks/startup.py`` in an environment with stzoo; it writes ``benchmarks/results/startup.json``. The
commands take turns, so that a busy moment of the machine falls on all of them; imports are read off
``python -X importtime``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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
    options = parser.parse_args()
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
