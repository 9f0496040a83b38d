"""Fifty plugins, five of them broken: what they cost the cheap commands, and that each breaks nothing but itself.

Run ``python benchmarks/plugins.py``; it writes ``benchmarks/results/plugins.json``. The plugins are written with real
metadata into a folder that is put on ``PYTHONPATH``; commands take turns with and without it, so that a busy moment of
the machine falls on both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "plugins.json"
STZOO = str(Path(sys.executable).with_name("stzoo"))
COMMANDS = {"stzoo --help": ["--help"], "stzoo plugins list": ["plugins", "list"]}

GOOD = """
from stzoo import ModelSpec, hookimpl

@hookimpl
def stzoo_models():
    home = "{module}.model"
    return [ModelSpec("{name}", "imputer", home + ":Constant", "each gene's mean", "MIT", home + ":ConstantConfig")]
"""
MODEL = """
from dataclasses import dataclass

import numpy as np
from stzoo import Imputer
from stzoo.core.imputer import Filled


@dataclass
class ConstantConfig:
    pass


class Constant(Imputer):
    name, config_class = "{name}", ConstantConfig

    def fill(self, stack, values, *, progress=None):
        return [Filled(np.where(np.isnan(v), np.nanmean(v, axis=0), v), np.ones_like(v)) for v in values]
"""
BROKEN = {
    "ImportError": "import no_such_package_anywhere",
    "SyntaxError": "def broken(:",
    "wrong record": "from stzoo import hookimpl\n@hookimpl\ndef stzoo_models():\n    return ['name']",
    "exception in a hook": "from stzoo import hookimpl\n@hookimpl\ndef stzoo_models():\n    1 / 0",
    "wrong interface version": "STZOO_API = 99\n",
}
CAUSES = {
    "ImportError": "no_such_package_anywhere",
    "SyntaxError": "SyntaxError",
    "wrong record": "expected a ModelSpec",
    "exception in a hook": "ZeroDivisionError",
    "wrong interface version": "interface 99",
}
USE = """
import numpy as np, stzoo, sys
from stzoo.core.io.synthetic import synthetic_section
section = synthetic_section(side_um=800)
hidden = section.hide(np.arange(section.n_spots) % 2 == 0)
for name in sys.argv[1:]:
    filled = stzoo.model(name).impute(hidden).adata.layers["imputed"]
    print(name, bool(np.isfinite(filled).all()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--good", type=int, default=45)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = install(Path(folder), options.good)
        seconds = timed(folder, options.runs)
        states = {p["name"]: p for p in json.loads(call([STZOO, "plugins", "list", "--json"], folder).stdout)}
        used = call([sys.executable, "-c", USE, *names], folder).stdout.splitlines()
        torch = "torch" in imported(folder)
    named = {kind: cause in states[place(kind)]["error"] for kind, cause in CAUSES.items()}
    result: dict[str, Any] = {
        "plugins": {"good": len(names), "broken": len(BROKEN)},
        "good_that_work": sum(line.endswith("True") for line in used),
        "broken_named_with_cause": sum(named.values()),
        "states": {kind: [states[place(kind)]["state"], states[place(kind)]["error"]] for kind in BROKEN},
        "torch_imported_by_plugins_list": torch,
        "load": os.getloadavg()[0],
        "seconds": seconds,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def install(folder: Path, good: int) -> list[str]:
    """Write the distributions; return the names of the models of the good ones."""
    names = [f"constant-{i:02d}" for i in range(good)]
    for name in names:
        module = name.replace("-", "_")
        write(folder, f"stzoo-{name}", name, module)
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text(GOOD.format(module=module, name=name))
        (folder / module / "model.py").write_text(MODEL.format(name=name))
    for kind, text in BROKEN.items():
        write(folder, f"stzoo-{place(kind)}", place(kind), place(kind).replace("-", "_"))
        (folder / f"{place(kind).replace('-', '_')}.py").write_text(text)
    return names


def place(kind: str) -> str:
    return "broken-" + kind.lower().replace(" ", "-")


def write(folder: Path, dist: str, point: str, module: str) -> None:
    info = folder / f"{dist.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stzoo]\n{point} = {module}\n")


def timed(folder: str, runs: int) -> dict[str, Any]:
    """Return median seconds of each command without and with the fifty plugins, and what they add."""
    found: dict[str, Any] = {}
    for name, arguments in COMMANDS.items():
        taken: dict[str, list[float]] = {"": [], folder: []}
        for site in taken:
            call([STZOO, *arguments], site)  # files are in the page cache, and byte code is written, from here on
        for _ in range(runs):
            for site, values in taken.items():
                start = time.perf_counter()
                call([STZOO, *arguments], site)
                values.append(time.perf_counter() - start)
        none, fifty = (statistics.median(values) for values in taken.values())
        found[name] = {"without": round(none, 3), "with_fifty": round(fifty, 3), "ratio": round(fifty / none, 2)}
    return found


def imported(folder: str) -> set[str]:
    """Return the modules that ``stzoo plugins list`` imports."""
    done = call([sys.executable, "-X", "importtime", STZOO, "plugins", "list"], folder)
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def call(command: list[str], site: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": site}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's interpreter keeps byte code
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    main()
