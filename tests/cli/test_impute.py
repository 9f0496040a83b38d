"""``stzoo impute`` and ``stzoo design``: every rule, every kind of section, and what stands in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from stzoo.core.io.read import read
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

Run = Callable[..., Any]
GENES = "ERBB2,CD74,COL1A1"


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    section = synthetic_section(side_um=2000)
    section.adata.obs["seen"] = np.arange(section.n_spots) % 3 == 0
    return write(section, tmp_path_factory.mktemp("tissue") / "s.h5ad")


def check(path: Path, source: Any, *, array: bool = True) -> anndata.AnnData:
    """Check what an imputed file must hold, against the section that was imputed."""
    adata = anndata.read_h5ad(path)
    measured = adata.obs["measured"].to_numpy()
    assert list(adata.obs_names) == list(source.adata.obs_names)
    assert 0 < measured.sum() < len(measured)
    x = np.asarray(adata.X)
    assert np.isnan(x[~measured]).all()
    assert np.array_equal(x[measured], source.counts(list(adata.var_names))[measured])
    assert np.isfinite(adata.layers["imputed"]).all()
    assert (adata.layers["confidence"][measured] == 1).all()
    assert ((adata.layers["confidence"] >= 0) & (adata.layers["confidence"] <= 1)).all()
    assert adata.obsm["spatial"].shape == (len(measured), 2)
    assert ({"array_row", "array_col"} <= set(adata.obs)) is array
    depth = source.depth[measured]
    expected = np.log1p(x[measured] / np.maximum(depth, 1)[:, None] * np.median(depth[depth > 0]))
    np.testing.assert_allclose(adata.layers["imputed"][measured], expected, rtol=1e-4, atol=1e-5)
    return adata


@pytest.mark.parametrize(
    "rule", ["grid:2", "grid:2+1,0", "grid:3", "random:0.25", "random:0.25+7", "obs:seen", "file:LIST"]
)
def test_every_rule(stzoo: Run, tissue: Path, tmp_path: Path, rule: str) -> None:
    section, names = read(tissue), tmp_path / "names.txt"
    names.write_text("\n".join(section.adata.obs_names[::4]))
    rule = rule.replace("LIST", str(names))
    args = ["impute", tissue, "--model", "bilinear", "--genes", GENES, "--measured", rule, "--out", tmp_path / "F.h5ad"]
    done = stzoo(*args)
    assert done.code == 0, done.err
    adata = check(tmp_path / "F.h5ad", section)
    assert adata.uns["stzoo_section"]["spatial_unit"] == "px"
    assert "region" not in adata.obs


@pytest.mark.parametrize("model", ["gene-mean", "nearest", "bilinear", "bicubic", "knn", "smooth", "kriging"])
def test_every_imputer_on_cells_without_rows_and_columns(stzoo: Run, tmp_path: Path, model: str) -> None:
    rng = np.random.default_rng(0)
    header = "cell_id,x_centroid,y_centroid,A,B"
    rows = [
        f"c{i},{rng.random() * 500:.2f},{rng.random() * 500:.2f},{rng.poisson(9)},{rng.poisson(4)}" for i in range(80)
    ]
    table = tmp_path / "cells.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    out = tmp_path / "F.h5ad"
    assert stzoo("impute", table, "--model", model, "--measured", "random:0.5+1", "--out", out).code == 0
    adata = check(out, read(table), array=False)
    assert adata.uns["stzoo_section"]["spatial_unit"] == "um"
    np.testing.assert_array_equal(adata.obsm["spatial"], adata.obsm["spatial_um"])
    back = read(out)
    assert "spatial" not in back.adata.obsm
    np.testing.assert_array_equal(back.um, read(table).um)


def test_a_design_is_a_rule(stzoo: Run, tissue: Path, tmp_path: Path) -> None:
    names, plot, out = tmp_path / "barcodes.txt", tmp_path / "design.png", tmp_path / "F.h5ad"
    done = stzoo("design", tissue, "--share", "0.25", "--out", names, "--plot", plot)
    assert done.code == 0, done.err
    assert "one phase of stride 2" in done.out
    assert plot.stat().st_size > 5000
    assert stzoo("impute", tissue, "--model", "nearest", "--measured", f"file:{names}", "--out", out).code == 0
    adata = check(out, read(tissue))
    assert list(adata.obs_names[adata.obs["measured"]]) == names.read_text().split()
    again = stzoo("design", tissue, "--out", names)
    assert again.code == 1
    assert "--overwrite" in again.err
    assert stzoo("design", tissue, "--share", "0.4", "--seed", "3", "--out", names, "--overwrite").code == 0
    assert len(names.read_text().split()) == round(0.4 * read(tissue).n_spots)


@pytest.mark.real
def test_binned_xenium(stzoo: Run, shared_data: Path, tmp_path: Path) -> None:
    source, names, out = shared_data / "xenium_breast" / "xenium_q1.csv.gz", tmp_path / "b.txt", tmp_path / "F.h5ad"
    assert stzoo("design", source, "--bin-um", 100, "--out", names).code == 0
    for rule in (f"file:{names}", "grid:2+1,0"):
        args = ["--bin-um", 100, "--genes", "ERBB2,CD68", "--model", "smooth", "--measured", rule, "--overwrite"]
        done = stzoo("impute", source, *args, "--out", out)
        assert done.code == 0, done.err
        adata = check(out, read(source, bin_um=100))
        assert adata.uns["stzoo_section"]["spatial_unit"] == "um"


@pytest.mark.real
def test_spots_of_her2st(stzoo: Run, shared_data: Path, tmp_path: Path) -> None:
    source, out = f"{shared_data / 'her2st'}::C3", tmp_path / "F.h5ad"
    done = stzoo("impute", source, "--genes", GENES, "--model", "bicubic", "--measured", "grid:2+1,1", "--out", out)
    assert done.code == 0, done.err
    assert check(out, read(source)).uns["stzoo_section"]["spatial_unit"] == "px"


def test_s2s_st_with_its_options_and_pictures(stzoo: Run, tissue: Path, tmp_path: Path) -> None:
    args = ["impute", tissue, "--model", "s2s-st", "--genes", GENES, "--measured", "grid:2", "--set", "refined.steps=2"]
    pictures = ["--plot", tmp_path / "maps.png", "--show", "CD74", "--reliability", tmp_path / "curve.png"]
    done = stzoo(*args, "--out", tmp_path / "F.h5ad", *pictures)
    assert done.code == 0, done.err
    adata = check(tmp_path / "F.h5ad", read(tissue))
    assert '"steps": 2' in adata.uns["stzoo"]["imputed"]["config"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("maps.png", "curve.png"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--set", "refined.step=2"], "refined.step"),
        (["--show", "NOGENE"], "NOGENE"),
        (["--model", "kriging", "--set", "components=-1"], "components"),
        (["--measured", "all", "--reliability", "r.png"], "no counts are known"),
    ],
)
def test_what_is_asked_wrongly_is_named(
    stzoo: Run, tissue: Path, tmp_path: Path, extra: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["impute", tissue, "--genes", GENES, "--measured", "grid:2", "--out", "F.h5ad"]
    done = stzoo(*args, *([] if "--model" in extra else ["--model", "s2s-st"]), *extra)
    assert done.code in (1, 2)
    assert words in done.err
    assert not list(tmp_path.glob("*.*"))
