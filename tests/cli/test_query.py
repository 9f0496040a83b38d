"""``stzoo query`` and its library call."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from evaluate_fakes import FakeConfig
from stzoo.cli.main import run
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder
from stzoo.core.errors import UsageError
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.registry import model
from stzoo.core.workflows.query import query


class Oracle(Encoder):
    """Answers with the depth of the section it is given: NaN if counts are hidden, as they must be."""

    name, config_class, embedding_dim = "oracle", FakeConfig, 1

    def __init__(self) -> None:
        super().__init__()
        self.saw: list[float] = []

    def embed(self, section: Section) -> np.ndarray:
        raise AssertionError("a query is answered without an embedding")

    def query(self, section: Section, genes: list[str], **_: object) -> np.ndarray:
        self.saw.append(float(np.nansum(section.depth)))
        return np.linspace(0, len(genes), section.n_spots, dtype=np.float32)

    def genes_not_trained_on(self, genes: list[str]) -> list[str]:
        return [gene for gene in genes if gene.startswith("X")]


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=1200, seed=2)


def test_counts_are_laid_beside_and_never_given(section: Section) -> None:
    oracle = Oracle()
    found = query(oracle, section, {"stroma": ["COL1A1", "COL3A1"], "odd": ["XNONE"]})  # type: ignore[arg-type]
    assert oracle.saw == [0.0, 0.0]
    assert list(found.section.adata.obs["query_stroma"]) == list(found.scores[:, 0])
    assert np.isfinite(found.pcc[0])
    assert np.isnan(found.pcc[1])
    assert "never seen in training: XNONE" in found.lines()[1]
    assert "never" not in found.lines()[0]
    values = section.expression(["COL1A1", "COL3A1"], target=1e4)
    expected = ((values - values.mean(axis=0)) / values.std(axis=0)).mean(axis=1)
    np.testing.assert_allclose(found.measured[:, 0], expected, atol=1e-4)


def test_a_model_that_answers_no_queries_says_so(section: Section) -> None:
    with pytest.raises(UsageError, match="no queries"):
        query(model("colour-texture"), section, {"a": ["ERBB2"]})


def test_command_writes_scores_and_picture(section: Section, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, out, plot = tmp_path / "s.zarr", tmp_path / "q.h5ad", tmp_path / "q.png"
    write(section, source)
    command = ["query", str(source), "--set", "T cells=CD3D,TRAC", "--symbol", "KRT17", "--out", str(out)]
    assert run([*command, "--plot", str(plot)]) == 0
    obs = anndata.read_h5ad(out).obs
    assert {"query_T_cells", "query_KRT17"} <= set(obs)
    assert plot.stat().st_size > 1000
    assert "T cells: PCC" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["nothing", "=A,B", "name=", "name= , "])
def test_malformed_sets_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["query", "none.h5ad", "--set", text, "--out", str(tmp_path / "q.h5ad")]) == 2
    assert "is no set of genes" in capsys.readouterr().err
