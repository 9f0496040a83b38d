"""``stzoo stack``, and ``stzoo design`` and ``stzoo impute`` of a stack file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import stzoo as face
from stack_layouts import YAML, stack_folder

Run = Callable[..., Any]
GENES = "ERBB2,CD74,COL1A1"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack_folder(tmp_path_factory.mktemp("stack"))


def test_from_a_folder_to_filled_sections(
    stzoo: Run, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(stack.parent / "data")
    made = stzoo("stack", "new", "data", "--spacing-um", 20, "--central", "B")
    assert made.code == 0, made.err
    assert "source: data::A\n" in Path("stack.yaml").read_text()
    shown = stzoo("stack", "check", "stack.yaml")
    assert shown.code == 0, shown.err
    assert [line.split()[0] for line in shown.out.splitlines()[2:5]] == ["A", "B", "C"]
    assert "central: B, measured at every spot" in shown.out
    chosen = stzoo("design", "stack.yaml", "--share", 0.25, "--out", "sparse")
    assert chosen.code == 0, chosen.err
    stack_ = face.read_stack("sparse/stack.yaml")
    seen = sum(int(section.measured.sum()) for section in stack_.sections)
    every = sum(section.n_spots for section in stack_.sections)
    assert f"measured fraction: {seen / every:.3f} ({seen} of {every} spots)" in chosen.out
    assert "(1 + (K - 1) r) / K = 0.500 for K = 3" in chosen.out
    args = ["--model", "smooth", "--aligner", "none", "--genes", GENES, "--out", "out", "--export-sections"]
    filled = stzoo("impute", "sparse/stack.yaml", *args)
    assert filled.code == 0, filled.err
    assert filled.out.count("gene mean: PCC 0") == 2
    for section in stack_.sections:
        adata = anndata.read_h5ad(f"out/{section.name}.h5ad")
        measured = adata.obs["measured"].to_numpy()
        assert np.array_equal(measured, section.measured)
        assert np.isnan(np.asarray(adata.X)[~measured]).all()
        assert np.isfinite(adata.layers["imputed"]).all()
        assert list(adata.var_names) == GENES.split(",")
        np.testing.assert_array_equal(adata.obsm["spatial_common_um"], section.um)


def test_sections_are_aligned_by_a_plugin(stzoo: Run, stack: Path, tmp_path: Path) -> None:
    done = stzoo("impute", stack, "--genes", GENES, "--model", "smooth", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["volume.zarr"]
    a, b = (anndata.read_zarr(tmp_path / "out" / "volume.zarr" / "sections" / name) for name in "AB")
    assert a.uns["stzoo"]["stack"]["aligner"] == "rigid"
    away = np.linalg.norm(a.obsm["spatial_common_um"] - b.obsm["spatial_common_um"], axis=1)
    assert away.max() < 10  # the sections lie 40 µm apart in their own frames


def test_a_stack_that_is_not_central_anywhere_is_told(stzoo: Run, stack: Path) -> None:
    file = stack.with_name("sparse.yaml")
    file.write_text(YAML.replace("measured: all", "measured: grid:2"))
    assert "note: no section is measured at every spot" in stzoo("stack", "check", file).out


WRONG = [
    (["impute", "STACK", "--measured", "grid:2", "--out", "OUT"], "--measured has no meaning for a stack"),
    (["impute", "STACK", "--plot", "p.png", "--out", "OUT"], "--plot has no meaning for a stack"),
    (["impute", "STACK", "--aligner", "rigd", "--out", "OUT"], "did you mean 'rigid'?"),
    (["impute", "STACK", "--aligner", "kriging", "--out", "OUT"], "is an imputer"),
    (["impute", "STACK", "--out", "OUT.h5ad"], "a stack is written as a folder"),
    (["impute", "STACK", "--genes", "NOPE", "--out", "OUT"], "no gene 'NOPE'"),
    (["impute", "data/A.h5ad", "--aligner", "rigid", "--out", "OUT.h5ad"], "--aligner has no meaning for a single"),
    (["impute", "data/A.h5ad", "--export-sections", "--out", "OUT.h5ad"], "--export-sections has no meaning"),
    (["design", "STACK", "--central", "D", "--out", "OUT"], "no section 'D'"),
    (["design", "STACK", "--bin-um", "50", "--out", "OUT"], "--bin-um has no meaning for a stack"),
    (["design", "STACK", "--share", "0", "--out", "OUT"], "the share is 0.0"),
    (["design", "data/A.h5ad", "--central", "A", "--out", "OUT"], "--central has no meaning for a single section"),
    (["stack", "new", "data", "--out", "OUT.yaml"], "--spacing-um"),
    (["stack", "new", "data", "--spacing-um", "16", "--out", "OUT.txt"], "no name for a stack file"),
    (["stack", "new", "data", "--spacing-um", "16", "--sections", "A,X", "--out", "OUT.yaml"], "no section 'X'"),
    (["stack", "new", "data/A.h5ad", "--spacing-um", "16", "--out", "OUT.yaml"], "a stack needs two"),
    (["stack", "check", "none.yaml"], "no such file"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_bad_use_leaves_nothing(
    stzoo: Run, stack: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stack.parent)
    bad = stzoo(*["stack.yaml" if a == "STACK" else a for a in arguments])
    assert bad.code in (1, 2)
    assert words in bad.err
    assert not list(stack.parent.glob("OUT*"))


def test_an_imputer_that_needs_a_whole_section_says_so(
    stzoo: Run, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stzoo.plugins.baselines.imputers.gene_mean import GeneMean

    monkeypatch.setattr(GeneMean, "needs_whole_section", True)
    file = stack.with_name("sparse.yaml")
    file.write_text(YAML.replace("measured: all", "measured: grid:2"))
    args = ["--model", "gene-mean", "--aligner", "none", "--genes", GENES, "--out", tmp_path / "OUT"]
    bad = stzoo("impute", file, *args)
    assert bad.code == 1
    assert "sparse.yaml, line 3" in bad.err
    assert stzoo("impute", stack, *args).code == 0
