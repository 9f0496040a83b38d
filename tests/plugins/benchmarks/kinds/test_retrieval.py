"""Recall among the spots of a section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_fakes import Oracle, Shared
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, UsageError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.protocol import GeneSet, Row
from stzoo.core.evaluation.run import run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.metrics.retrieval import partner_ranks
from stzoo.plugins.benchmarks.kinds.retrieval import RetrievalProtocol


@pytest.fixture(scope="module")
def pair() -> list[Section]:
    return [synthetic_section(side_um=2000, seed=seed, name=name) for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def folder(pair: list[Section], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    for section in pair:
        write(section, path / f"{section.name}.zarr")
    return path


def _run(folder: Path, encoder: Any, row: Row, **changes: Any) -> dict[str, dict[str, float]]:
    values = {"train": ["a.zarr"], "test": ["b.zarr"], "gene_sets": [GeneSet("top", count=30)], "rows": [row]}
    protocol = RetrievalProtocol(**{"name": "p", "kind": "retrieval", **values, **changes})  # type: ignore[arg-type]
    return {s.part: s.metrics for s in run_protocol(protocol, folder, load=lambda name: encoder).scores}


def test_ranks_count_what_is_more_similar_and_share_ties() -> None:
    similarity = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.5], [0.3, 0.2, 0.1]])
    assert partner_ranks(similarity).tolist() == [1, 2, 3]
    with pytest.raises(UsageError, match="expected"):
        partner_ranks(np.zeros((2, 3)))


def test_a_shared_space_in_which_partners_coincide(folder: Path, pair: list[Section]) -> None:
    shared = Shared(*pair)
    found = _run(folder, shared, Row("shared", weights="w"))
    assert set(found) == {"image -> expression", "expression -> image"}
    assert all(metrics["recall_1"] == 1 and metrics["median_rank"] == 1 for metrics in found.values())
    assert not shared.asked[0].measured.any()  # images come from the blind section


def test_profiles_that_are_predicted_right_are_found(folder: Path, pair: list[Section]) -> None:
    found = _run(folder, Oracle(*pair), Row("profiles", weights="w", head="zero-shot"))
    assert found["image -> expression"]["recall_1"] == 1
    regions = _run(folder, Oracle(*pair), Row("regions", weights="w", head="ridge"))["image -> expression"]
    n = pair[1].n_spots
    assert 1 < regions["median_rank"] < n / 2  # three regions are known, not the spot


def test_chance_is_k_of_n(folder: Path, pair: list[Section]) -> None:
    n = pair[1].n_spots
    for metrics in _run(folder, None, Row("chance", control="chance")).values():
        assert metrics["recall_10"] == pytest.approx(10 / n)
        assert metrics["median_rank"] == (n + 1) / 2
        assert metrics["n"] == n


def test_an_encoder_without_a_shared_space_is_told_apart(folder: Path, pair: list[Section]) -> None:
    with pytest.raises(UsageError, match="no space that images and expression share"):
        _run(folder, Oracle(*pair), Row("r", weights="w"))
    with pytest.raises(ConfigError, match="2 gene sets, expected one"):
        _run(folder, Oracle(*pair), Row("r", weights="w"), gene_sets=[GeneSet("a"), GeneSet("b")])


def test_shipped() -> None:
    assert load_protocol("her2st-retrieval").rows[0].control == "chance"
