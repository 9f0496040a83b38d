"""Protocols and their figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stzoo.core.errors import ConfigError
from stzoo.core.evaluate import evaluate, gene_sets
from stzoo.core.protocol import GeneSet, Protocol, Rank, Row, load_protocol
from stzoo.core.store import write
from stzoo.core.synthetic import synthetic_section


def _protocol(**changes: object) -> Protocol:
    values = {
        "name": "p",
        "train": ["a.zarr"],
        "test": ["b.zarr"],
        "gene_sets": [GeneSet("mean", Rank.mean, 6), GeneSet("all", Rank.variance, 40)],
        "rows": [Row("mean"), Row("colour, ridge", model="colour-texture", head="ridge")],
    }
    return Protocol(**{**values, **changes})  # type: ignore[arg-type]


def _refuse(name: str) -> object:
    raise AssertionError(f"no weights are needed, but '{name}' was asked for")


def test_genes_are_chosen_without_the_test_section() -> None:
    train, test = synthetic_section(side_um=1000, seed=0), synthetic_section(side_um=1000, seed=1)
    chosen = gene_sets([train], [test], _protocol())
    test.adata.X = test.adata.X * 5
    assert gene_sets([train], [test], _protocol()) == chosen
    assert [len(genes) for genes in chosen.values()] == [6, 40]


def test_rows_stand_beside_the_gene_mean(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        write(synthetic_section(side_um=2000, seed=seed, name=name), tmp_path / f"{name}.zarr")
    scores = evaluate(_protocol(), tmp_path, load=_refuse)
    by = {(s.row, s.genes): s for s in scores}
    assert by["mean", "mean"].pcc_mean == 0
    assert by["mean", "mean"].constant == 6
    assert by["colour, ridge", "all"].pcc_mean > 0.1
    assert all(np.isfinite([s.mse, s.pcc_median]).all() for s in scores)


def test_shipped_protocols_load_and_a_leak_is_refused(tmp_path: Path) -> None:
    full, quick = load_protocol("her2st-c5"), load_protocol("her2st-c5-quick")
    assert full.test == quick.test == ["her2st::C5"]
    assert full.seeds == [0, 1, 2]
    leak = tmp_path / "leak.yaml"
    leak.write_text("train: [x]\ntest: [x]\ngene_sets: [{name: g}]\nrows: [{name: m}]\n")
    with pytest.raises(ConfigError, match="in train and in test"):
        load_protocol(str(leak))
