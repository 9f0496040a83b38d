"""Every broken input gets one clear message, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import bad_inputs
import pytest
from stzoo.cli.main import run


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
