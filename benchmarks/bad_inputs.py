"""The table of broken inputs and the message that each gets: ``python benchmarks/bad_inputs.py``."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import tempfile
from pathlib import Path

from stzoo.cli.main import run

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run every case, print the table, and return 1 if any has no clear message."""
    spec = importlib.util.spec_from_file_location("bad_inputs_cases", ROOT / "tests" / "helpers" / "bad_inputs.py")
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    rows, failed = [], 0
    print("| case | exit | message |\n|---|---|---|")
    for name, build in cases.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = build(Path(folder))
            error = io.StringIO()
            with contextlib.redirect_stderr(error):
                code = run(arguments)
            message = error.getvalue().strip().replace(folder, "DIR").replace(str(ROOT), "REPO")
        ok = code in (1, 2) and message.startswith("error:") and "bug in stzoo" not in message
        failed += not ok
        rows.append({"case": name, "exit": code, "message": message, "ok": ok})
        print(f"| {name} | {code} | {' / '.join(line.strip() for line in message.splitlines())[:300]} |")
    (ROOT / "benchmarks" / "results" / "bad_inputs.json").write_text(
        json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    )
    print(f"\n{len(rows)} broken inputs, {failed} without a clear message")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
