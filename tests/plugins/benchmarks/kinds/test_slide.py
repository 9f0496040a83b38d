"""Random spots of one slide: what is fitted on what, and what the scores hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_fakes import Oracle
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.protocol import Row
from stzoo.core.evaluation.run import Result, run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.metrics.correlation import concatenated_pcc
from stzoo.plugins.benchmarks.kinds.slide import SameSlideProtocol


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=2000, seed=0, name="a")


@pytest.fixture(scope="module")
def folder(section: Section, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write(section, path / "a.zarr")
    return path


def _run(folder: Path, encoder: Any, *rows: Row, **changes: Any) -> Result:
    values = {"name": "p", "kind": "same-slide", "sections": ["a.zarr"], "genes": ["KRT8", "COL1A1"]}
    protocol = SameSlideProtocol(**{**values, "seeds": [0, 1], "rows": list(rows), **changes})
    return run_protocol(protocol, folder, load=lambda name: encoder)


def test_heads_are_fitted_anew_on_each_split_and_on_nothing_else(folder: Path, section: Section) -> None:
    oracle = Oracle(section)
    result = _run(folder, oracle, Row("ridge", weights="w", head="ridge"))
    first, second = (fitted.measured for fitted in oracle.fitted_on)
    assert first.sum() == second.sum() == round(0.8 * section.n_spots)
    assert not np.array_equal(first, second)
    assert all(np.isnan(fitted.counts()[~fitted.measured]).all() for fitted in oracle.fitted_on)
    assert result.scores[0].sd["mae"] > 0


def test_a_prediction_that_is_right_is_right_in_every_metric(folder: Path, section: Section) -> None:
    oracle = Oracle(section)
    scores = {s.part: s.metrics for s in _run(folder, oracle, Row("o", weights="w", head="zero-shot")).scores}
    assert list(scores) == ["all", "KRT8", "COL1A1", "a"]
    assert scores["all"] == pytest.approx({"mae": 0, "pcc": 1, "pcc_concatenated": 1}, abs=1e-6)
    assert not any(seen.measured.any() for seen in oracle.asked)


def test_gene_means_know_nothing_and_one_correlation_over_all_genes_praises_them(
    folder: Path, section: Section
) -> None:
    metrics = _run(folder, None, Row("mean"), genes=["ACTB", "IGKC"]).scores[0].metrics
    assert metrics["pcc"] == 0
    assert metrics["pcc_concatenated"] > 0.3


def test_spots_between_fitted_spots_are_predicted_without_an_image(folder: Path) -> None:
    assert _run(folder, None, Row("near", control="neighbours")).scores[0].metrics["pcc"] > 0.2


def test_one_correlation_is_over_the_whole_table() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 30, 4))
    assert concatenated_pcc(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_missing_genes_are_named(folder: Path) -> None:
    result = _run(folder, None, Row("mean"), genes=["KRT8", "NPY"])
    assert result.notes == ["section 'a' has no NPY"]
    assert {score.part for score in result.scores} == {"all", "KRT8", "a"}
    with pytest.raises(DataError, match="none of the genes"):
        _run(folder, None, Row("mean"), genes=["NPY"])


def test_shipped_and_its_warning_holds_on_the_real_data(shared_data: Path) -> None:
    protocol = load_protocol("dlpfc-eight-genes")
    assert ".65 to .66" in protocol.warning
    protocol.rows = [row for row in protocol.rows if not (row.model or row.weights)]
    protocol.seeds = [0, 1]
    found = {(s.row, s.part): s.metrics for s in run_protocol(protocol, shared_data, load=lambda name: None).scores}
    assert 0.645 <= found["gene mean", "all"]["pcc_concatenated"] <= 0.665
    leaked = found["control: nearest fitted spots, no image", "all"]
    assert leaked["pcc"] > 0.5
    assert leaked["mae"] < found["gene mean", "all"]["mae"]
