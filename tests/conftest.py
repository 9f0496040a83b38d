"""Fixtures shared by all rooms."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from stzoo.core.discovery.manager import DISABLE_VARIABLE, NONE_VARIABLE, default_manager

SHARED = Path(os.environ.get("STZOO_SHARED_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real tissue sections; tests that need it skip where it is absent."""
    if not (SHARED / "her2st").is_dir():
        pytest.skip(f"real data not found at {SHARED} (set STZOO_SHARED_DATA)")
    return SHARED.resolve()


class Site:
    """A temporary folder on ``sys.path`` into which tests install distributions with real metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()

    def install(
        self, dist: str, points: dict[str, str], files: dict[str, str | bytes] | None = None, version: str = "1.0"
    ) -> Path:
        """Write modules (path -> text) and the dist-info of a distribution with entry points of group ``stzoo``."""
        for name, content in (files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            self.modules.add(name.split("/")[0].removesuffix(".py"))
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        lines = "".join(f"{name} = {module}\n" for name, module in points.items())
        (info / "entry_points.txt").write_text(f"[stzoo]\n{lines}")
        importlib.invalidate_caches()
        default_manager.cache_clear()
        return self.folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty :class:`Site`; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    monkeypatch.delenv(NONE_VARIABLE, raising=False)
    default_manager.cache_clear()
    made = Site(folder)
    yield made
    default_manager.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in made.modules]:
        del sys.modules[name]


TOY = """
from stzoo import ModelSpec, WeightsSpec, hookimpl

@hookimpl
def stzoo_models():
    return [ModelSpec("toy", "imputer", "toy_plugin.model:Toy", "adds an offset", "MIT", "toy_plugin.model:ToyConfig")]

@hookimpl
def stzoo_weights():
    return [WeightsSpec("toy-tiny", "toy", "package://toy_plugin/weights/toy-tiny", "an offset of two", "MIT")]
"""

TOY_MODEL = """
from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.imputer import Filled, Imputer
from stzoo.core.weights.repository import restore_module


@dataclass
class ToyConfig:
    width: int = 3


class Toy(Imputer):
    name = "toy"
    config_class = ToyConfig

    def __init__(self, config=None, *, device="cpu", seed=0):
        super().__init__(config, device=device, seed=seed)
        self.layer = torch.nn.Linear(self.config.width, 1)

    def state(self):
        return dict(self.layer.state_dict())

    def description(self):
        return {"genes": ["A", "B"]}

    def assets(self):
        return {"words.txt": b"one two"}

    def restore(self, state, description, assets):
        restore_module(self.layer, state)

    def fill(self, stack, values, *, progress=None):
        return [Filled(np.nan_to_num(v), np.ones_like(v)) for v in values]
"""


@pytest.fixture
def toy(site: Site) -> Path:
    """The site with a plugin ``toy`` that has a small torch model and packaged weights ``toy-tiny``."""
    site.install(
        "toy-dist",
        {"toy": "toy_plugin"},
        {"toy_plugin/__init__.py": TOY, "toy_plugin/model.py": TOY_MODEL, "toy_plugin/weights/none.txt": ""},
    )
    from stzoo.core.registry import model

    model("toy", {"width": 3}).save(site.folder / "toy_plugin" / "weights" / "toy-tiny", card="# Toy\n")
    return site.folder


def pytest_configure(config: pytest.Config) -> None:
    """Take Ctrl-C as a terminal would: a runner in the background hands it down ignored, to children as well."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
