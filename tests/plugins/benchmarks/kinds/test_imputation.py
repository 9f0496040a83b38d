"""Imputation protocols: hidden spots only, one reference, work that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import ConfigError, DataError, UsageError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import Row
from stzoo.core.evaluation.run import Result, lines, report, run_protocol
from stzoo.core.imputer import Filled, Imputer
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.metrics.summary import summarise
from stzoo.core.registry import model
from stzoo.core.runtime.progress import Progress
from stzoo.core.workflows.impute import impute
from stzoo.plugins.benchmarks.kinds.imputation import ImputationProtocol, hidden_ssim

RULES = ["grid:2", "grid:2+1,1"]


@dataclass
class FakeConfig:
    """Nothing to choose."""


class Oracle(Imputer):
    """Knows the truth, plus noise of its seed; records what it was given."""

    name = "oracle"
    config_class = FakeConfig

    def __init__(self, section: Section, seed: int = 0, noise: float = 0.0) -> None:
        super().__init__(None, seed=seed)
        self.known, self.noise, self.given = section, noise, list[Section]()

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        self.given += stack.sections
        measured = stack.sections[0].measured
        truth = self.known.expression(stack.genes, target=float(np.median(self.known.depth[measured])))
        truth = truth + self.noise * np.random.default_rng(self.seed).standard_normal(truth.shape).astype(np.float32)
        return [Filled(truth, np.ones_like(truth))]


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=2400, seed=0, name="a")


@pytest.fixture(scope="module")
def folder(section: Section, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write(section, path / "a.zarr")
    return path


def run(folder: Path, *rows: Row, work: Path | None = None, oracle: Any = None, **changes: Any) -> Result:
    values = {"name": "p", "kind": "imputation", "section": "a.zarr", "measured": RULES, "top": 8, "rows": list(rows)}
    return run_protocol(ImputationProtocol(**{**values, **changes}), folder, load=lambda name: oracle, work=work)


def metrics(result: Result) -> dict[tuple[str, str], dict[str, float]]:
    return {(score.row, score.part): score.metrics for score in result.scores}


def test_the_truth_scores_best_and_hidden_counts_are_not_given(folder: Path, section: Section) -> None:
    oracle = Oracle(section)
    found = metrics(run(folder, Row("o", weights="w"), Row("mean"), oracle=oracle, reference="mean"))
    best = found["o", "all genes"]
    assert best["pcc_median"] == pytest.approx(1, abs=1e-5)
    assert best["mae"] == pytest.approx(0, abs=1e-5)
    assert best["ssim"] == pytest.approx(1, abs=1e-4)
    assert best["genes_better"] == 1
    assert best["p_pcc"] < 1e-6
    assert np.isnan(best["gain"])  # the gene mean has a correlation of 0
    for given, rule in zip(oracle.given, RULES, strict=True):
        assert 0 < given.measured.sum() < section.n_spots, rule
        assert np.isnan(given.counts()[~given.measured]).all()


def test_scores_are_means_over_rules_of_hidden_spots(folder: Path, section: Section) -> None:
    found = metrics(run(folder, Row("s", model="smooth"), Row("k", model="kriging", overrides=["components=0"])))
    wanted = []
    for rule in RULES:
        done = impute(model("smooth"), section, rule=rule)
        hidden = ~done.section.measured
        wanted.append(summarise(done.truth[hidden], done.section.adata.layers["imputed"][hidden]))
    for name in ("pcc_median", "pcc_mean", "mae", "rmse"):
        expected = np.mean([one[name] for one in wanted])
        assert found["s", "all genes"][name] == pytest.approx(expected, abs=1e-6)
    assert found["k", "all genes"]["mae"] != found["s", "all genes"]["mae"]
    assert "gain" not in found["s", "all genes"]


def test_the_reference_is_run_once_and_first(folder: Path, section: Section) -> None:
    oracle = Oracle(section)
    rows = Row("mean"), Row("near", model="knn"), Row("ref", weights="w")
    found = metrics(run(folder, *rows, oracle=oracle, reference="ref"))
    assert len(oracle.given) == len(RULES)
    assert found["near", "top-8-variance"]["genes_better"] == 0
    assert 0 < found["near", "all genes"]["gain"] < 1
    assert "p_pcc" not in found["ref", "all genes"]


def test_rows_that_depend_on_their_seed_are_repeated(folder: Path) -> None:
    rows = Row("k", model="kriging"), Row("again", model="knn", random=True)
    result = run(folder, *rows, seeds=[0, 1], reference="k")
    assert {score.row: score.seeds for score in result.scores} == {"k": 1, "again": 2}
    head, body = lines(report(ImputationProtocol(name="p", kind="imputation", rows=list(rows)), result))
    assert head[:3] == ["", "genes", "PCC median"]
    assert len(body) == 4


def test_a_stopped_evaluation_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Row("s", model="smooth"), Row("n", model="knn")
    first = metrics(run(folder, *rows, work=tmp_path))
    kept = sorted(tmp_path.glob("imputed-*.npz"))
    assert len(kept) == 2 * len(RULES)

    def never(*args: object, **options: object) -> None:
        raise AssertionError("filled again")

    monkeypatch.setattr("stzoo.plugins.baselines.imputers.knn.Knn.fill_parts", never)
    monkeypatch.setattr("stzoo.plugins.baselines.imputers.smooth.Smooth.fill_parts", never)
    assert metrics(run(folder, *rows, work=tmp_path)) == first
    with pytest.raises(AssertionError, match="filled again"):  # other options, other data: not the same result
        run(folder, Row("n", model="knn", overrides=["neighbours=3"]), work=tmp_path)
    with pytest.raises(AssertionError, match="filled again"):
        run(folder, *rows, work=tmp_path, genes=["KRT8", "CD74"])


def test_options_name_folders_below_the_data(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("p", model="s2s-st", overrides=["variant=cdcin", "images={data}/natural"])
    with pytest.raises(DataError, match="no natural image was found") as caught:
        run(folder, row)
    assert caught.value.where == str(folder.resolve() / "natural")
    monkeypatch.chdir(folder)
    assert row.below(Path()) == row.below(folder)  # however the folder is written, kept results are found
    assert row.overrides[1] == "images={data}/natural"


def test_genes_and_bins_and_few_counts(folder: Path, section: Section) -> None:
    result = run(folder, Row("n", model="knn"), genes=["KRT8", "CD74", "COL1A1"], top=2, bin_um=400.0)
    assert [score.part for score in result.scores] == ["all genes", "top-2-variance"]
    assert "400 µm bins" in result.conditions
    least = int(np.sort(section.depth)[20])
    assert f"{section.n_spots - 20} spots" in run(folder, Row("mean"), min_counts=least).conditions
    with pytest.raises(DataError, match="no spot has"):
        run(folder, Row("mean"), min_counts=10**9)
    with pytest.raises(DataError, match="hides 0 spots"):
        run(folder, Row("mean"), measured=["all"])


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (Row("n", model="knn", overrides=["neighbour=3"]), {}, "neighbour"),
        (Row("n", model="knn", head="ridge"), {}, "recipe or a head"),
        (Row("n", model="knn"), {"reference": "kriging"}, "no row is called 'kriging'"),
        (Row("n", model="knn"), {"top": 0}, "top is 0"),
    ],
)
def test_slips_are_found_before_anything_is_run(folder: Path, row: Row, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(folder, Row("mean"), row, **changes)


def test_weights_that_are_no_imputer(folder: Path) -> None:
    with pytest.raises(UsageError, match="no imputer"):
        Models(lambda name: "an encoder", folder).imputer(Row("w", weights="w"), 0)


def test_similarity_of_maps_over_hidden_places(section: Section) -> None:
    truth = section.expression(["KRT8", "CD74"])
    hidden = np.arange(section.n_spots) % 2 == 1
    assert hidden_ssim(section, truth, truth[hidden], hidden) == pytest.approx([1, 1])
    noise = np.random.default_rng(0).standard_normal((int(hidden.sum()), 2)).astype(np.float32)
    worse = hidden_ssim(section, truth, truth[hidden] + noise, hidden)
    assert (worse < 0.9).all()
    no_rows = section.take(np.arange(section.n_spots))
    del no_rows.adata.obs["array_row"]
    assert np.isnan(hidden_ssim(no_rows, truth, truth[hidden], hidden)).all()
    crowded = section.take(np.arange(section.n_spots))
    crowded.adata.obs["array_row"] = 0
    assert np.isnan(hidden_ssim(crowded, truth, truth[hidden], hidden)).all()


@pytest.mark.parametrize(
    "name", ["xenium-q1-50um", "xenium-q1-50um-ablation", "xenium-q1-25um", "xenium-q2-50um", "mouse-brain-50um"]
)
def test_the_shipped_protocols_are_read(name: str) -> None:
    protocol = load_protocol(name)
    assert isinstance(protocol, ImputationProtocol)
    assert len(protocol.measured) == 4
    assert protocol.min_counts == 10
    assert protocol.reference in [row.name for row in protocol.rows]
    for row in protocol.rows:  # options are known; a folder of the data is one
        Models(lambda name: None, Path()).imputer(row.below(Path()), 0)


@pytest.mark.real
def test_the_orientation_scores_of_the_real_tissue(shared_data: Path) -> None:
    protocol = load_protocol("xenium-q1-50um")
    assert isinstance(protocol, ImputationProtocol)
    protocol.measured = protocol.measured[:1]
    protocol.rows = [row for row in protocol.rows if row.name in ("bilinear", "bicubic", "smooth", "kriging")]
    found = metrics(run_protocol(protocol, shared_data, load=lambda name: None))
    assert found["kriging", "top-50-variance"]["pcc_median"] > 0.45
    assert found["kriging", "all genes"]["pcc_median"] > 0.22
    for row in ("bilinear", "bicubic", "smooth"):
        assert found[row, "all genes"]["gain"] < 0.9
