"""Commands that only list start fast: what they import, and the processor time they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from stzoo.core.conformance.worker import HEAVY

# YAML may: plugins list their weights in it.
UNWANTED = {*HEAVY, "omegaconf", "safetensors", "huggingface_hub", "tokenizers", "pyarrow", "rich"}

IMPORTS = "import stzoo"
COMMAND = "from stzoo.cli.main import run; code = run({0!r}); assert code == 0, code"

LINES = ["--help", "--version", "plugins list", "plugins list --json", "plugins info readers", "zoo list",
         "zoo list --json", "zoo --help", "data --help", "data inspect --help"]  # fmt: skip

CASES = {
    "import stzoo": IMPORTS,
    "every import-light name": "import stzoo; stzoo.hookimpl, stzoo.StzooError, stzoo.ModelSpec, stzoo.__version__",
    **{f"stzoo {line}": COMMAND.format(line.split()) for line in LINES},
}


@pytest.mark.parametrize("case", CASES)
def test_a_light_command_imports_nothing_heavy_and_is_fast(case):
    report = (
        "\nimport json, sys, time; sys.stderr.write('\\n' + json.dumps([time.process_time(), sorted(sys.modules)]))"
    )
    environment = {**os.environ, "STZOO_DISABLE_PLUGINS": ""}
    command = [sys.executable, "-c", CASES[case] + report]
    runs = []
    for _ in range(3):  # the fastest of three: other programs share the processor and its caches
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        seconds, modules = json.loads(done.stderr.splitlines()[-1])
        runs.append(seconds)
        found = {name.split(".")[0] for name in modules} & UNWANTED
        assert not found, f"{case} imports {', '.join(sorted(found))}"
        if seconds < 0.5:
            break
    assert min(runs) < 0.5, f"{case} took {min(runs):.2f} s of processor time"


def test_the_command_of_one_module_does_not_import_the_others():
    code = (
        COMMAND.format(["data", "--help"])
        + "\nimport sys; print([m for m in sys.modules if m.startswith('stzoo.cli')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    loaded = set(eval(shown.splitlines()[-1]))
    assert "stzoo.cli.data" in loaded
    assert not loaded & {"stzoo.cli.plugins", "stzoo.cli.zoo", "stzoo.cli.predict", "stzoo.cli.train"}


def test_every_public_name_can_be_found():
    import stzoo

    assert set(stzoo.__all__) <= set(dir(stzoo))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = stzoo.nothing
