"""Every broken input gets one clear message, and nothing is written."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from stzoo.cli.main import run

_spec = importlib.util.spec_from_file_location("bad_inputs", Path(__file__).with_name("bad_inputs.py"))
assert _spec is not None
assert _spec.loader is not None
bad_inputs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bad_inputs)


@pytest.mark.parametrize("name", bad_inputs.CASES)
def test_bad_input(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = bad_inputs.CASES[name](tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    code = run(arguments)
    message = capsys.readouterr().err
    assert code in (1, 2), message
    assert "bug in stzoo" not in message
    assert "Traceback" not in message
    assert message.startswith("error:")
    assert "do:" in message or "where:" in message
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == before
