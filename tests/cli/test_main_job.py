"""The main job through the command line: predict, impute, train, evaluate, demo."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from stzoo.cli.main import run
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

GENES = "ERBB2,COL1A1,CD74,KRT18"


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tissue")
    for seed in (0, 1):
        write(synthetic_section(side_um=1200, seed=seed, name=f"s{seed}"), folder / f"s{seed}.zarr")
    return folder


def test_predict_writes_what_scanpy_opens(tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "p.h5ad", tmp_path / "p.png"
    assert run(["predict", str(tissue / "s0.zarr"), "--genes", GENES, "--out", str(out), "--plot", str(plot)]) == 0
    adata = anndata.read_h5ad(out)
    assert list(adata.var_names) == GENES.split(",")
    assert np.isfinite(adata.layers["predicted"]).all()
    about = adata.uns["stzoo"]["predicted"]
    assert about["weights_name"] == "comtip-tiny"
    assert len(about["weights_sha256"]) == 64
    assert plot.stat().st_size > 10_000
    assert "PCC" in capsys.readouterr().out


def test_predict_never_overwrites_unasked(tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.h5ad"
    out.write_text("mine")
    assert run(["predict", str(tissue / "s0.zarr"), "--genes", GENES, "--out", str(out)]) == 1
    assert out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err


def test_predict_with_a_reference_section(tissue: Path, tmp_path: Path) -> None:
    args = ["predict", str(tissue / "s0.zarr"), "--genes", GENES, "--out", str(tmp_path / "r.h5ad")]
    assert run([*args, "--head", "retrieval", "--reference", str(tissue / "s1.zarr")]) == 0


def test_impute_keeps_measured_spots(tissue: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.h5ad"
    args = [
        "impute",
        str(tissue / "s0.zarr"),
        "--measured",
        "grid:2",
        "--out",
        str(out),
        "--plot",
        str(tmp_path / "i.png"),
    ]
    assert run(args) == 0
    adata = anndata.read_h5ad(out)
    measured = adata.obs["measured"].to_numpy()
    assert 0 < measured.sum() < len(measured)
    assert np.isnan(adata.X[~measured]).all()
    assert np.isfinite(adata.layers["imputed"]).all()
    assert (adata.layers["confidence"][measured] == 1).all()


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert (tmp_path / "demo" / "demo.png").exists()
    assert "synthetic" in capsys.readouterr().out


def test_train_then_evaluate(tissue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "sections: [s0.zarr]\nconfig:\n  embedding_dim: 16\n"
        "  vision: {tile_px: 64, width: 24, depth: 1, heads: 2}\n  text: {width: 16, depth: 1, heads: 2, pieces: 60}\n"
        "  train: {steps: 3, batch: 12, genes: 8, ranked_genes: 8, views: 1}\n"
    )
    out = tmp_path / "run"
    args = ["train", "comtip", "--config", str(recipe), "--data", str(tissue), "--out", str(out)]
    assert run(args) == 0
    assert run(args) == 1  # a finished run is never trained over
    protocol = tmp_path / "protocol.yaml"
    protocol.write_text(
        "name: tiny\nquestion: does it run?\ntrain: [s0.zarr]\ntest: [s1.zarr]\n"
        "gene_sets: [{name: top, rank: mean, count: 5}]\n"
        "rows:\n  - {name: mean}\n  - {name: ours, weights: " + str(out / "weights") + ", head: zero-shot}\n"
    )
    metrics = tmp_path / "report.json"
    assert run(["evaluate", str(protocol), "--data", str(tissue), "--json", str(metrics)]) == 0
    scores = json.loads(metrics.read_text())["scores"]
    assert [s["row"] for s in scores] == ["mean", "ours"]
    assert scores[0]["figures"]["pcc_mean"] == 0
    assert scores[0]["figures"]["constant"] == 5
    assert "does it run?" in capsys.readouterr().out
