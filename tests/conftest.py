"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("STZOO_SHARED_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real tissue sections; tests that need it skip where it is absent."""
    if not (SHARED / "her2st").is_dir():
        pytest.skip(f"real data not found at {SHARED} (set STZOO_SHARED_DATA)")
    return SHARED.resolve()
