"""``stzoo align``: what it prints and writes, and that it writes all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.read import read
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

Run = Callable[..., Any]
TRUTH = Transform.rigid(50, (400, -100), flip=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lopsided tissue without slide, and the same turned and mirrored."""
    folder = tmp_path_factory.mktemp("pair")
    whole = synthetic_section(side_um=2600)
    um = whole.um
    adata = whole.take((um[:, 0] < 1200) | (um[:, 1] + um[:, 0] / 2 < 1700)).adata
    um = adata.obsm.pop("spatial")
    sections = []
    for name, place in (("moving", um), ("fixed", TRUTH.apply(um))):
        one = adata.copy()
        one.obsm["spatial_um"] = place
        sections.append(write(Section(one, name, pitch_um=200.0), folder / f"{name}.h5ad"))
    return sections[0], sections[1]


def test_it_finds_prints_and_writes_everything(stzoo: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    out, plot, report, moved = (tmp_path / name for name in ("t.zarr", "t.png", "t.json", "m.h5ad"))
    done = stzoo("align", *pair, "--out", out, "--both-ways", "--plot", plot, "--report", report, "--moved", moved)
    assert done.code == 0, done.err
    for text in (
        "rigid: moving onto fixed: turned by 50.0°",
        "mirrored",
        "Dice",
        "there and back",
        "chance leaves 77 µm",
    ):
        assert text in done.out
    section = read(pair[0])
    assert np.abs(Transform.load(out).apply(section.um) - TRUTH.apply(section.um)).max() < 1
    found = json.loads(report.read_text())
    assert found["model"] == "rigid"
    assert found["quality"]["passed"] is True
    assert found["quality"]["consistency_mean_um"] < 1
    assert plot.stat().st_size > 5000
    there = anndata.read_h5ad(moved)
    assert np.abs(there.obsm["spatial_um"] - TRUTH.apply(section.um)).max() < 1
    assert there.uns["stzoo_section"]["spatial_unit"] == "um"
    assert np.array_equal(read(moved).counts(), section.counts())


def test_a_moved_section_keeps_no_slide(stzoo: Run, tmp_path: Path) -> None:
    source = write(synthetic_section(side_um=1200), tmp_path / "s.h5ad")
    done = stzoo("align", source, source, "--out", tmp_path / "t.zarr", "--moved", tmp_path / "m.h5ad", "--set",
                 "use=spots", "--set", "flips=false", "--set", "step_deg=90")  # fmt: skip
    assert done.code == 0, done.err
    moved = read(tmp_path / "m.h5ad")
    assert moved.slide is None
    assert "spatial" not in anndata.read_h5ad(tmp_path / "m.h5ad").uns


def test_existing_outputs_are_refused_before_any_work_and_replaced_on_request(
    stzoo: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    out, report = tmp_path / "t.zarr", tmp_path / "t.json"
    report.write_text("precious")
    done = stzoo("align", *pair, "--out", out, "--report", report)
    assert (done.code, report.read_text(), out.exists()) == (1, "precious", False)
    assert "exists already" in done.err
    assert stzoo("align", *pair, "--out", out, "--report", report, "--overwrite", "--set", "step_deg=30").code == 0
    assert json.loads(report.read_text())["fixed"] == "fixed"
