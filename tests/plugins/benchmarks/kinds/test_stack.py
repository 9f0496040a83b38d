"""Stack protocols: hidden spots of the sparse sections only, means over runs, and nobody sees a hidden count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluate_fakes as fakes
import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr
from stzoo.core.arrays import Floats
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import ConfigError, DataError, StzooError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import GeneSet, Rank
from stzoo.core.evaluation.run import Result, run_protocol
from stzoo.core.geometry.transform import Transform
from stzoo.core.imputer import Filled, Imputer
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.registry import model
from stzoo.core.runtime.progress import Progress
from stzoo.plugins.benchmarks.kinds.stack import StackProtocol, StackRow, Uses
from stzoo.plugins.benchmarks.kinds.stack_score import Guess, score_section

NAMES = ("a", "b", "c")
RULES = ["grid:2", "grid:2+1,1"]


@dataclass
class FakeConfig:
    """Nothing to choose."""


class Oracle(Imputer):
    """Knows the truth of sections by their names; records what it was given; less sure where it errs more."""

    name = "oracle"
    config_class = FakeConfig

    def __init__(self, sections: Sequence[Section], noise: float = 0.0) -> None:
        super().__init__()
        self.known, self.noise, self.given = {s.name: s for s in sections}, noise, list[Stack]()

    def fill(self, stack: Stack, values: Sequence[Floats], *, progress: Progress | None = None) -> list[Filled]:
        self.given.append(stack)
        filled = []
        for section in stack.sections:
            truth = self.known[section.name].expression(stack.genes, target=1e4)
            size = np.linspace(0, 1, len(truth), dtype=np.float32)[:, None]
            wrong = np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32)
            filled.append(Filled(truth + self.noise * size * wrong, np.broadcast_to(1 - size, truth.shape)))
        return filled


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return [synthetic_section(side_um=1800, seed=seed, name=name) for seed, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def folder(sections: list[Section], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    for section in sections:
        write(section, path / f"{section.name}.zarr")
    return path


def protocol(*rows: StackRow, **changes: Any) -> StackProtocol:
    values: dict[str, Any] = {
        "name": "p",
        "kind": "stack",
        "sections": [f"{name}.zarr" for name in NAMES],
        "central": ["b"],
        "measured": RULES,
        "aligner": "none",
        "genes": GeneSet(rank=Rank.mean, count=6),
        "rows": list(rows),
    }
    return StackProtocol(**{**values, **changes})


def run(folder: Path, *rows: StackRow, oracle: Any = None, work: Path | None = None, **changes: Any) -> Result:
    return run_protocol(protocol(*rows, **changes), folder, load=lambda name: oracle, work=work)


def metrics(result: Result) -> dict[tuple[str, str], dict[str, float]]:
    return {(score.row, score.part): score.metrics for score in result.scores}


def test_figures_by_hand(folder: Path, sections: list[Section]) -> None:
    """The mean over rules and sections of what a few lines find for transfer, alignment and genes included."""
    found = metrics(run(folder, StackRow("t", model="transfer"), StackRow("mean", uses=Uses.sparse)))
    wanted: dict[str, list[list[float]]] = {"a": [], "c": []}
    for rule in RULES:
        masks = [np.ones(len(s), bool) if s.name == "b" else measured_mask(s, rule) for s in sections]
        values = [s.expression(target=1e4)[m] for s, m in zip(sections, masks, strict=True)]
        seen = np.concatenate(values)
        often = np.flatnonzero((seen > 0).mean(axis=0) >= 0.1)
        genes = [sections[0].genes[i] for i in often[np.argsort(-seen.mean(axis=0)[often])][:6]]
        given = Stack(tuple(s.hide(m).take_genes(genes) for s, m in zip(sections, masks, strict=True)))
        for section, mask, done in zip(sections, masks, model("transfer").impute(given).sections, strict=True):
            if section.name != "b":
                truth = section.expression(genes, target=1e4)[~mask]
                guess = done.adata.layers["imputed"][~mask]
                pcc = [np.corrcoef(truth[:, g], guess[:, g])[0, 1] for g in range(6)]
                errors = np.mean((truth - guess) ** 2), np.abs(truth - guess).mean()
                wanted[section.name].append([float(np.median(pcc)), float(np.mean(pcc)), *map(float, errors)])
    names = ("pcc_median", "pcc_mean", "mse", "mae")
    for part, rows in wanted.items():
        assert [found["t", part][n] for n in names] == pytest.approx(np.mean(rows, axis=0), abs=1e-5)
    both = np.mean([*wanted["a"], *wanted["c"]], axis=0)
    assert [found["t", "all sections"][n] for n in names] == pytest.approx(both, abs=1e-5)
    assert found["mean", "all sections"]["pcc_median"] == 0
    assert {part for _, part in found} == {"all sections", "a", "c"}


def test_nobody_sees_a_hidden_count(
    folder: Path, sections: list[Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poison what is hidden: genes, alignment and all that an imputer is given stay as they are (A8)."""
    shown: list[list[tuple[Section, Section]]] = [[], []]
    oracles = [Oracle(sections), Oracle(sections)]
    for number, poison in enumerate((False, True)):
        data = tmp_path / str(poison)
        for section in sections:
            adata = section.adata.copy()
            if poison and section.name != "b":
                x = section.counts()
                x[~measured_mask(section, RULES[0])] = np.arange(x.shape[1])[::-1] * 1000
                adata.X = x
            write(Section(adata, section.name, section.slide, section.mpp), data / f"{section.name}.zarr")

        def align(_: Any, moving: Section, fixed: Section, seen: Any = shown[number], **options: Any) -> Transform:
            seen.append((moving, fixed))
            return Transform.identity()

        monkeypatch.setattr("stzoo.plugins.baselines.aligners.rigid.Rigid.align", align)
        run(data, StackRow("o", weights="w"), oracle=oracles[number], measured=RULES[:1], aligner="rigid")
    assert len(shown[0]) == len(shown[1]) == 2
    for before, after in zip(shown[0], shown[1], strict=True):
        for a, b in zip(before, after, strict=True):
            same(a, b)
    (clean,), (poisoned,) = oracles[0].given, oracles[1].given
    for a, b, full in zip(clean.sections, poisoned.sections, sections, strict=True):
        same(a, b)
        measured = measured_mask(full, "all" if full.name == "b" else RULES[0])
        assert np.array_equal(b.measured, measured)
        assert np.isnan(b.counts()[~measured]).all()
        assert np.isnan(b.depth[~measured]).all()
        assert set(b.adata.obs) <= {"array_row", "array_col", "in_tissue", "total_counts", "measured"}
        assert not b.adata.layers
        assert not b.adata.uns


def same(a: Section, b: Section) -> None:
    assert a.genes == b.genes
    np.testing.assert_array_equal(a.counts(), b.counts())
    np.testing.assert_array_equal(a.depth, b.depth)


def test_every_aligner_runs_once_a_run_and_none_leaves_the_sections(
    folder: Path, sections: list[Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = []

    def align(_: Any, moving: Section, fixed: Section, **options: Any) -> Transform:
        moves.append((moving.name, fixed.name))
        return Transform.rigid(10)

    monkeypatch.setattr("stzoo.plugins.baselines.aligners.rigid.Rigid.align", align)
    oracle = Oracle(sections)
    rows = StackRow("o", weights="w"), StackRow("again", weights="w"), StackRow("raw", weights="w", aligner="none")
    run(folder, *rows, oracle=oracle, aligner="rigid")
    assert moves == [("a", "b"), ("c", "b")] * len(RULES)
    turned = [stack.transforms[0] is not None for stack in oracle.given]
    assert turned == [True, True, False, False]  # the second row is the same work, and not done again
    assert all(stack.transforms[1] is None for stack in oracle.given)


def test_what_a_row_uses(folder: Path, sections: list[Section]) -> None:
    oracle = Oracle(sections)
    rows = (
        StackRow("sparse", weights="w", uses=Uses.sparse),
        StackRow("full", weights="w", control="fully-measured"),
    )
    found = metrics(run(folder, *rows, oracle=oracle, measured=RULES[:1], folds=4))
    assert found["full", "a"]["pcc_median"] == pytest.approx(1, abs=1e-5)
    alone = [stack.sections for stack in oracle.given]
    assert all(len(own) == 1 for own in alone)
    shares = [own[0].measured.mean() for own in alone]
    assert shares[:2] == pytest.approx([0.25, 0.25], abs=0.05)
    assert shares[2:] == pytest.approx([0.75] * 8, abs=0.01)
    hidden = [~own[0].measured for own in alone[2:6]]
    assert (np.sum(hidden, axis=0) == 1).all()  # every spot of a section in one fold


def test_an_encoder_is_fitted_on_what_it_may_use(folder: Path, sections: list[Section]) -> None:
    fitted = {}
    for uses in Uses:
        encoder = fakes.Oracle(*sections)
        row = StackRow("e", weights="w", head="ridge", uses=uses)
        found = metrics(
            run(folder, row, oracle=encoder, measured=RULES[:1], genes=GeneSet(rank=Rank.variance, count=6))
        )
        assert found["e", "all sections"]["pcc_median"] > 0.1
        assert "rho" not in found["e", "all sections"]  # heads have no confidence
        fitted[uses] = [(section.name, int(section.measured.sum())) for section in encoder.fitted_on]
    few = int(measured_mask(sections[0], RULES[0]).sum())
    whole = ("b", sections[1].n_spots)
    assert fitted == {
        Uses.all: [("a", few), whole, ("c", few)],
        Uses.central: [whole],
        Uses.sparse: [("a", few), ("c", few)],
    }


def test_confidence_is_compared_with_the_error_of_spots() -> None:
    rng = np.random.default_rng(0)
    truth = rng.gamma(2, 1, (60, 5)).astype(np.float32)
    truth[:, 4] = 1
    size = rng.uniform(0.1, 3, 60)
    values = (truth + size[:, None] * rng.standard_normal((60, 5))).astype(np.float32)
    metrics, pcc = score_section(truth, Guess(values, -size))
    error = (((values - truth) ** 2)[:, :4] / truth[:, :4].var(axis=0)).mean(axis=1)
    assert metrics["rho"] == pytest.approx(spearmanr(-size, error).statistic)
    assert metrics["rho"] < -0.5
    half = np.argsort(size)[:30]
    trusted = [np.corrcoef(truth[half, g], values[half, g])[0, 1] for g in range(4)]
    assert metrics["pcc_trusted"] == pytest.approx(np.median(trusted), abs=1e-6)
    assert metrics["pcc_trusted"] > metrics["pcc_median"] + 0.2
    assert np.isnan(pcc[4])
    assert "rho" not in score_section(truth, Guess(values, np.full(60, 0.5)))[0]


def test_the_reference_and_its_test_pool_the_genes_of_all_sections(folder: Path, sections: list[Section]) -> None:
    rows = StackRow("o", weights="w"), StackRow("t", model="transfer"), StackRow("mean")
    found = metrics(run(folder, *rows, oracle=Oracle(sections, noise=0.5), reference="o"))
    assert found["t", "all sections"]["genes_better"] == 0
    assert found["t", "all sections"]["p_pcc"] < found["t", "a"]["p_pcc"]  # twice the genes
    assert found["mean", "all sections"]["gain"] == 0
    assert found["o", "a"]["rho"] < -0.3
    assert "gain" not in found["o", "a"]


def test_shares_are_parts_and_each_section_is_once_central(folder: Path) -> None:
    rules = ["random:0.5+0", "random:0.5+1", "random:0.2+0"]
    found = metrics(run(folder, StackRow("t", model="transfer"), measured=rules))
    assert [part for _, part in found] == [
        *("random:0.5", "random:0.5, a", "random:0.5, c"),
        *("random:0.2", "random:0.2, a", "random:0.2, c"),
    ]
    turned = metrics(run(folder, StackRow("t", model="transfer"), measured=RULES[:1], central=list(NAMES)))
    assert [part for _, part in turned] == ["all sections", *NAMES]
    single = [metrics(run(folder, StackRow("t", model="transfer"), measured=RULES[:1], central=[n])) for n in "bc"]
    mean = np.mean([one["t", "a"]["mse"] for one in single])
    assert turned["t", "a"]["mse"] == pytest.approx(mean)


def test_genes_of_all_sections_are_chosen_and_named(folder: Path, sections: list[Section]) -> None:
    result = run(folder, StackRow("mean"), genes=GeneSet(rank=Rank.variance, count=3))
    (note,) = result.notes
    assert note.startswith("3 genes a run, chosen on measured spots;")
    assert "central b" in result.conditions
    assert f"a ({sections[0].n_spots} spots)" in result.conditions


def test_a_stopped_evaluation_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = StackRow("t", model="transfer"), StackRow("k", model="knn", uses=Uses.sparse)
    first = metrics(run(folder, *rows, work=tmp_path))

    def never(*args: object, **options: object) -> None:
        raise AssertionError("filled again")

    monkeypatch.setattr("stzoo.plugins.baselines.imputers.transfer.Transfer.fill_parts", never)
    monkeypatch.setattr("stzoo.plugins.baselines.imputers.knn.Knn.fill_parts", never)
    assert metrics(run(folder, *rows, work=tmp_path)) == first
    with pytest.raises(AssertionError, match="filled again"):
        run(folder, StackRow("t", model="transfer", overrides=["own=0.5"]), work=tmp_path)


def test_spots_outside_the_tissue_are_left_out(sections: list[Section], tmp_path: Path, folder: Path) -> None:
    for section in sections:
        copy = section.take(np.arange(section.n_spots))
        copy.adata.obs["in_tissue"] = np.arange(section.n_spots) % 3 > 0
        write(copy, tmp_path / f"{section.name}.zarr")
    inside = int((np.arange(sections[0].n_spots) % 3 > 0).sum())
    assert f"a ({inside} spots)" in run(tmp_path, StackRow("mean"), in_tissue=True).conditions
    with pytest.raises(DataError, match="has no obs"):
        run(folder, StackRow("mean"), in_tissue=True)


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([], {"central": ["d"]}, "central names 'd', which is no section"),
        ([], {"sections": ["a.zarr", "a.zarr"]}, "at least two of different names"),
        ([], {"folds": 1}, "folds is 1"),
        ([], {"measured": ["grid2"]}, "'grid2' is not a rule"),
        ([], {"measured": ["all"]}, "hides 0 spots of 'a'"),
        ([], {"min_detected": 1.1}, "no gene is in all sections and detected"),
        ([], {"aligner": "rigit"}, "did you mean 'rigid'"),
        ([], {"reference": "kriging"}, "no row is called 'kriging'"),
        ([StackRow("x", model="knn", aligner="rigit")], {}, "did you mean 'rigid'"),
        ([StackRow("x", model="knn", uses=Uses.central)], {}, "row 'x' uses the central section only"),
        ([StackRow("x", model="knn", overrides=["neighbour=3"])], {}, "neighbour"),
        ([StackRow("x", model="colour-texture", head="ridge", control="fully-measured")], {}, "row 'x' has a head"),
        ([StackRow("x", model="knn", control="fully")], {}, "controls: fully-measured"),
    ],
)
def test_slips_are_found_before_anything_is_run(
    folder: Path, rows: list[StackRow], changes: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("a row was run")

    monkeypatch.setattr("stzoo.plugins.baselines.imputers.gene_mean.GeneMean.fill", never)
    with pytest.raises(StzooError, match=message):
        run(folder, StackRow("mean"), *rows, **changes)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("aligners", "rigid", "did you mean 'aligner'"),
        ("rows", [{"name": "x", "uses": "full"}], "uses"),
        ("rows", [{"name": "x", "model": "knn", "alignr": "none"}], "alignr"),
        ("genes", {"rank": "mean", "top": 3}, "top"),
        ("central", [], "'central' is missing or empty"),
    ],
)
def test_a_bad_protocol_file_names_the_key(tmp_path: Path, key: str, value: Any, message: str) -> None:
    values = {"name": "p", "kind": "stack", "sections": ["a", "b"], "central": ["a"], "rows": [{"name": "x"}]}
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({**values, key: value}))
    with pytest.raises(ConfigError, match=message):
        load_protocol(str(path))


@pytest.mark.parametrize(
    "name",
    [
        "her2st-c-2.5d",
        "her2st-c-2.5d-rates",
        "her2st-c-2.5d-rotate",
        "paste-breast-2.5d",
        "dlpfc-2.5d",
        "mob-2.5d",
    ],
)
def test_the_shipped_protocols_are_read(name: str, tmp_path: Path) -> None:
    found = load_protocol(name)
    assert isinstance(found, StackProtocol)
    assert found.name == name
    assert found.reference in [row.name for row in found.rows]
    models = Models(lambda name: None, tmp_path)
    for row in found.rows:
        if not row.head and (row.model or row.weights):  # a row without either is the gene mean
            models.imputer(row.below(tmp_path), 0)
