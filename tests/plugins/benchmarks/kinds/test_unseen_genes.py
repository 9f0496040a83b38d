"""Held-out gene families: what reaches the models, and what the two permutation tests tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from evaluate_fakes import Oracle
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.protocol import Row
from stzoo.core.evaluation.run import Result, run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.plugins.benchmarks.kinds.unseen_genes import Family, UnseenGenesProtocol, most_similar, permute_hits, without

FAMILIES = [
    Family("keratins", "KRT[0-9]+"),
    Family("collagens", "COL[0-9]+A[0-9]+"),
    Family("immune", "HLA-.*|IG[HK].*|CD[0-9]+"),
]


@pytest.fixture(scope="module")
def pair() -> list[Section]:
    return [synthetic_section(side_um=2000, seed=seed, name=name) for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def folder(pair: list[Section], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    for section in pair:
        write(section, path / f"{section.name}.zarr")
    return path


def _run(folder: Path, encoder: Any, row: Row, **changes: Any) -> Result:
    protocol = UnseenGenesProtocol(
        **{
            "name": "p",
            "kind": "unseen-genes",
            "train": ["a.zarr"],
            "test": ["b.zarr"],
            "families": FAMILIES,
            "draws": 200,
            "rows": [row],
            **changes,
        }
    )
    return run_protocol(protocol, folder, load=lambda name: encoder)


def test_whole_families_are_gone_from_what_is_trained_on(folder: Path, pair: list[Section]) -> None:
    oracle = Oracle(*pair)
    _run(folder, oracle, Row("density", weights="w", head="ridge", control="density"))
    (train,) = oracle.fitted_on
    assert not [gene for gene in train.genes if gene.startswith(("KRT", "COL", "HLA-", "IGK", "CD7"))]
    assert "ERBB2" in train.genes
    np.testing.assert_array_equal(train.depth, train.counts().sum(axis=1))  # nor in the depth


def test_without_leaves_no_trace_in_the_depth(pair: list[Section]) -> None:
    section = pair[0].take_genes(pair[0].genes)  # carries total_counts of all genes
    np.testing.assert_array_equal(without(section, FAMILIES).depth, without(pair[0], FAMILIES).depth)
    assert (without(section, FAMILIES).depth < section.depth).all()


def test_knowing_the_genes_passes_both_tests(folder: Path, pair: list[Section]) -> None:
    result = _run(folder, Oracle(*pair), Row("zero-shot", weights="w", head="zero-shot"))
    found = {score.part: score.metrics for score in result.scores}
    assert list(found) == ["all families", "collagens", "keratins", "immune"]
    assert found["keratins"]["n"] == 3
    assert found["all families"]["n"] == sum(found[name]["n"] for name in list(found)[1:])
    assert found["all families"]["pcc_mean"] == pytest.approx(1)
    assert found["all families"]["share"] == 1
    assert found["all families"]["p_spots"] == pytest.approx(1 / 201)
    assert found["all families"]["p_genes"] == pytest.approx(1 / 201)


def test_one_map_for_all_genes_never_passes_the_stricter_test(folder: Path, pair: list[Section]) -> None:
    result = _run(folder, Oracle(*pair, one_map=True), Row("one map", weights="w", head="zero-shot"))
    metrics = result.scores[0].metrics
    assert metrics["share"] > 0
    assert metrics["p_genes"] == 1


def test_permuting_spots_breaks_a_pairing_and_permuting_genes_another() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((200, 6)).astype(np.float32)
    spots, genes = permute_hits(truth, truth.astype(np.float64), 0.5, 300)
    assert spots.shape == genes.shape == (300, 6)
    assert not spots.any()
    assert genes.mean() == pytest.approx(1 / 6, abs=0.03)  # a permutation leaves one gene in six in its place
    assert np.array_equal(permute_hits(truth, truth.astype(np.float64), 0.5, 300)[1], genes)


def test_the_relative_of_a_gene_is_the_map_of_a_seen_gene(folder: Path, pair: list[Section]) -> None:
    oracle = Oracle(*pair)
    row = Row("relative", weights="w", head="ridge", control="relative")
    metrics = _run(folder, oracle, row, families=[Family("one", "KRT8")]).scores[0].metrics
    predicted = oracle.predict(pair[1], ["KRT18"], head="ridge").values[:, 0]
    truth = pair[1].expression(["KRT8"], target=1e4)[:, 0]
    assert metrics["pcc_mean"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1], abs=1e-5)


def test_most_similar_is_by_the_beginning_first() -> None:
    assert most_similar("KRT8", ["XRT8", "KR", "KRAS"]) == "KR"
    assert most_similar("COL1A1", ["ACOL1A1", "COL1", "COLEC12"]) == "COL1"


def test_what_was_held_out_is_said(folder: Path, pair: list[Section]) -> None:
    result = _run(folder, Oracle(*pair), Row("z", weights="w", head="zero-shot"))
    assert "detected in at least 10% of the training spots" in result.notes[0]


def test_families_that_match_nothing_are_refused(folder: Path, pair: list[Section]) -> None:
    row = Row("z", weights="w", head="zero-shot")
    with pytest.raises(DataError, match="no gene of a held-out family"):
        _run(folder, Oracle(*pair), row, families=[Family("none", "XYZ.*")])
    with pytest.raises(ConfigError, match="not a regular expression"):
        _run(folder, Oracle(*pair), row, families=[Family("bad", "KRT[")])


@pytest.mark.parametrize(
    ("gene", "family"),
    [
        ("KRT86", "keratins"),
        ("KRTCAP3", ""),
        ("COLGALT1", ""),
        ("COL18A1", "collagens"),
        ("IGHMBP2", ""),
        ("IGHG3", "immunoglobulins"),
        ("IGLV6-57", "immunoglobulins"),
        ("S100PBP", ""),
        ("S100A10", "S100"),
        ("IFITM3", "interferon-induced"),
        ("MT2A", "metallothioneins"),
        ("MTOR", ""),
        ("CLDND1", ""),
    ],
)
def test_shipped_families_are_families(gene: str, family: str) -> None:
    protocol = load_protocol("her2st-zeroshot-genes")
    assert isinstance(protocol, UnseenGenesProtocol)
    section = Section(AnnData(np.ones((2, 2), np.float32), var=pd.DataFrame(index=[gene, "ANY"])), "two genes")
    section.adata.obsm["spatial_um"] = np.zeros((2, 2))
    holds_out = [found.name for found in protocol.families if gene not in without(section, [found]).genes]
    assert holds_out == ([family] if family else [])
    assert without(section, protocol.families).genes == ["ANY"] if family else [gene, "ANY"]
    assert "p (genes)" in protocol.warning
