"""A head and a kind of protocol of somebody else, each in one file, used by the commands and checked by the kit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pytest
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "one-file"
MEAN, NOISE = "self.values[near].mean(axis=1)", "np.random.random(embedding.shape)"
COLUMNS = f"{MEAN}[:, columns].astype(np.float32)"
HEAD, TASK = FOLDER / "neighbour_head.py", FOLDER / "rank_protocol.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in (0, 1):
        write(synthetic_section(side_um=1200, seed=seed, name=f"s{seed}"), folder / f"s{seed}.h5ad")
    return folder


def stzoo(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stzoo.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.mark.parametrize("path", [HEAD, TASK], ids=lambda path: path.stem)
def test_they_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_predict_uses_the_head_and_a_saved_model_brings_it_back(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.h5ad"
    given = ["predict", data / "s0.h5ad", "--reference", data / "s1.h5ad", "--genes", "CD74,COL1A1", "--out", out]
    done = stzoo(*given, "--head", "neighbours", "--plugin", HEAD, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    adata = anndata.read_h5ad(out)
    assert adata.uns["stzoo"]["predicted"]["head"] == "neighbours"
    assert np.isfinite(adata.layers["predicted"]).all()
    missing = stzoo(*given, "--overwrite", "--head", "neighbours", folder=tmp_path)  # without the file
    assert missing.returncode == 2
    assert "has no head 'neighbours'" in missing.stderr


def test_weights_with_a_head_that_is_not_installed_say_so(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys, stzoo\n"
        "from stzoo.core.discovery.one_file import use_plugin_file\n"
        f"use_plugin_file({str(HEAD)!r})\n"
        "model = stzoo.model('colour-texture', {'tile_px': 56})\n"
        f"model.fit([stzoo.read({str(data / 's1.h5ad')!r})], ['CD74'], head='neighbours').save('saved')\n"
        "print(list(stzoo.load('saved').fitted_heads))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "['neighbours']" in done.stdout
    alone = stzoo("embed", data / "s0.h5ad", "--model", tmp_path / "saved", "--out", "e.zarr", folder=tmp_path)
    assert alone.returncode == 1
    assert "'neighbours' belongs to no head that is installed" in alone.stderr


def test_evaluate_uses_the_kind_of_protocol(data: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "rank.yaml"
    rows = "rows:\n  - {name: ridge, model: colour-texture, overrides: [tile_px=56]}\n"
    rows += "  - {name: near, model: colour-texture, overrides: [tile_px=56], head: neighbours}\n"
    keys = "kind: rank\nname: rank\nquestion: q\ntrain: [s1.h5ad]\ntest: [s0.h5ad]\ngenes: [COL1A1, ERBB2]\n"
    protocol.write_text(keys + rows, encoding="utf-8")
    given = ["evaluate", protocol, "--data", data, "--plugin", TASK, "--plugin", HEAD]
    done = stzoo(*given, "--json", "r.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["scores"]
    assert [score["row"] for score in scores] == ["ridge", "near"]
    assert "Spearman" in done.stdout
    without = stzoo("evaluate", protocol, "--data", data, folder=tmp_path)
    assert without.returncode == 2
    assert "'rank' is not a kind of protocol" in without.stderr


@pytest.mark.parametrize(("name", "path"), [("neighbours", HEAD), ("rank", TASK)])
def test_the_kit_checks_them(name: str, path: Path, tmp_path: Path) -> None:
    done = stzoo("plugins", "check", name, "--plugin", path, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (COLUMNS, COLUMNS.replace("np.float32", "float"), "head-predicts-genes-in-order"),
        (MEAN, "np.repeat(self.values.mean(axis=0)[None], len(embedding), 0)", "head-reads-the-embedding"),
        ("stzoo.gene_columns(self.genes, genes)", "(self.genes, [0, 1, 2, 3])", "head-names-missing-genes"),
        ('"values": self.values}', '"values": self.values * 0}', "head-survives-saving"),
        ("embedding.astype(np.float32), expr", f"embedding + {NOISE}, expr", "head-same-seed-same-answer"),
        ("if embedding.shape[1] != self.keys.shape[1]:", "if False:", "head-names-missing-genes"),
    ],
)
def test_a_planted_fault_of_a_head_is_found_by_its_check(old: str, new: str, check: str, tmp_path: Path) -> None:
    text = HEAD.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "neighbour_head.py").write_text(text.replace(old, new), encoding="utf-8")
    done = stzoo("plugins", "check", "neighbours", "--plugin", "neighbour_head.py", "--json", folder=tmp_path)
    failed = [one["check"] for one in json.loads(done.stdout) if one["state"] == "failed"]
    assert check in failed


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("stzoo.SplitTask", "object", "task-has-its-parts"),
        ('columns = (stzoo.Column("spearman", "Spearman", 3),)', "columns = ()", "task-has-its-parts"),
        ("class RankProtocol(stzoo.SplitProtocol)", "class RankProtocol", "task-has-its-parts"),
        ("    def score", "    def __init__(self, *given): pass\n\n    def score", "task-refuses-what-is-not-there"),
    ],
)
def test_a_planted_fault_of_a_kind_is_found_by_its_check(old: str, new: str, check: str, tmp_path: Path) -> None:
    text = TASK.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "rank_protocol.py").write_text(text.replace(old, new), encoding="utf-8")
    done = stzoo("plugins", "check", "rank", "--plugin", "rank_protocol.py", "--json", folder=tmp_path)
    failed = [one["check"] for one in json.loads(done.stdout) if one["state"] == "failed"]
    assert check in failed
