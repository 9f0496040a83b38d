"""Clusters of frozen embeddings against labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_fakes import Oracle, Shared
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UsageError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.protocol import Row
from stzoo.core.evaluation.run import Result, run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.plugins.benchmarks.kinds.clustering import ClusteringProtocol


@pytest.fixture(scope="module")
def section() -> Section:
    made = synthetic_section(side_um=2000, seed=3, name="a")
    labels = made.adata.obs["region"].astype(str).to_numpy().copy()
    labels[:7] = "NA"
    made.adata.obs["layer"] = labels
    return made


@pytest.fixture(scope="module")
def folder(section: Section, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write(section, path / "a.zarr")
    return path


def _run(folder: Path, encoder: Any, *rows: Row, **changes: Any) -> Result:
    values = {"name": "p", "kind": "clustering", "sections": ["a.zarr"], "seeds": [0, 1], "rows": list(rows)}
    return run_protocol(ClusteringProtocol(**{**values, **changes}), folder, load=lambda name: encoder)


def test_an_embedding_of_the_labels_scores_one_and_unlabelled_spots_do_not_count(
    folder: Path, section: Section
) -> None:
    result = _run(folder, Oracle(section), Row("oracle", weights="w"))
    overall, own = result.scores
    assert overall.part == "overall"
    assert overall.metrics["ari"] == pytest.approx(1)
    assert own.metrics["n"] == section.n_spots - 7
    assert own.metrics["k"] == len(set(section.adata.obs["layer"]) - {"NA"})
    assert own.seeds == 2


def test_points_are_made_once_for_all_seeds(folder: Path, section: Section) -> None:
    shared = Shared(section)
    _run(folder, shared, Row("v", weights="w", head="image_vectors"))
    assert len(shared.asked) == 1


def test_controls_lie_between_noise_and_labels(folder: Path, section: Section) -> None:
    rows = [Row("where", control="coordinates"), Row("what", control="expression")]
    rows.append(Row("noise", weights="w", head="image_vectors"))
    scores = {s.row: s.metrics["ari"] for s in _run(folder, Shared(section), *rows).scores if s.part == "overall"}
    assert abs(scores["noise"]) < 0.1
    assert scores["what"] > 0.5
    assert scores["noise"] < scores["where"] < scores["what"]


def test_sections_that_are_not_there_are_named(folder: Path, section: Section) -> None:
    result = _run(folder, Oracle(section), Row("o", weights="w"), sections=["a.zarr", "b.zarr"])
    assert result.notes == ["not in the data folder, left out: b.zarr"]
    assert {score.part for score in result.scores} == {"overall", "a"}
    with pytest.raises(DataError, match="none of the sections"):
        _run(folder, Oracle(section), Row("o", weights="w"), sections=["b.zarr"])


def test_what_can_not_be_clustered_is_said(folder: Path, section: Section) -> None:
    with pytest.raises(DataError, match=r"no obs\['cortex'\]"):
        _run(folder, Oracle(section), Row("o", weights="w"), label="cortex")
    with pytest.raises(UsageError, match="neither model nor control"):
        _run(folder, Oracle(section), Row("o"))


def test_shipped(shared_data: Path) -> None:
    protocol = load_protocol("dlpfc-clustering")
    protocol.rows = [row for row in protocol.rows if row.control == "coordinates"]
    protocol.seeds = [0]
    result = run_protocol(protocol, shared_data, load=lambda name: None)
    assert "151675" in result.notes[0]
    assert {s.part for s in result.scores} == {"overall", "151673", "151674"}
    assert np.isfinite([s.metrics["ari"] for s in result.scores]).all()
    assert "full-resolution" in protocol.warning
