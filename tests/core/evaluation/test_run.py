"""Protocols and their scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_fakes import Oracle
from stzoo.core.data.section import Section
from stzoo.core.errors import ConfigError, PluginError, UsageError
from stzoo.core.evaluation.load_protocol import load_protocol
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.protocol import GeneSet, Rank, Row
from stzoo.core.evaluation.run import Result, lines, report, run_protocol
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.io.write import write
from stzoo.core.training.recipes import fingerprint
from stzoo.plugins.benchmarks.kinds.expression import ExpressionProtocol, gene_sets

TINY = """
config:
  embedding_dim: 16
  vision: {tile_px: 64, width: 24, depth: 1, heads: 2}
  text: {width: 16, depth: 1, heads: 2, pieces: 60}
  train: {steps: 2, batch: 12, genes: 8, ranked_genes: 8, views: 1, warmup: 1}
sections: [a.zarr]
"""


def _protocol(**changes: Any) -> ExpressionProtocol:
    values: dict[str, Any] = {
        "name": "p",
        "train": ["a.zarr"],
        "test": ["b.zarr"],
        "gene_sets": [GeneSet("mean", Rank.mean, 6), GeneSet("all", Rank.variance, 40)],
        "rows": [Row("mean"), Row("colour, ridge", model="colour-texture", head="ridge")],
    }
    return ExpressionProtocol(**{**values, **changes})


@pytest.fixture(scope="module")
def tissue_pair() -> list[Section]:
    return [synthetic_section(side_um=2000, seed=seed, name=name) for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def folder(tissue_pair: list[Section], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    for section in tissue_pair:
        write(section, path / f"{section.name}.zarr")
    return path


def _refuse(name: str) -> Any:
    raise AssertionError(f"no weights are needed, but '{name}' was asked for")


def _metrics(result: Result) -> dict[tuple[str, str], dict[str, float]]:
    return {(score.row, score.part): score.metrics for score in result.scores}


def test_genes_are_chosen_without_the_test_section() -> None:
    train, test = synthetic_section(side_um=1000, seed=0), synthetic_section(side_um=1000, seed=1)
    chosen = gene_sets([train], [test], _protocol())
    test.adata.X = test.adata.X * 5
    assert gene_sets([train], [test], _protocol()) == chosen
    assert [len(genes) for genes in chosen.values()] == [6, 40]


def test_rows_stand_beside_the_gene_mean(folder: Path) -> None:
    found = _metrics(run_protocol(_protocol(), folder, load=_refuse))
    assert found["mean", "mean"]["pcc_mean"] == 0
    assert found["mean", "mean"]["constant"] == 6
    assert found["colour, ridge", "all"]["pcc_mean"] > 0.1
    assert all(np.isfinite(list(metrics.values())).all() for metrics in found.values())


def test_a_model_sees_no_counts_of_the_test_section(folder: Path, tissue_pair: list[Section]) -> None:
    oracle = Oracle(*tissue_pair)
    rows = [Row("oracle", weights="oracle", head="zero-shot")]
    found = _metrics(run_protocol(_protocol(rows=rows), folder, load=lambda name: oracle))
    assert found["oracle", "all"]["pcc_mean"] == pytest.approx(1)
    (seen,) = oracle.asked
    assert not seen.measured.any()
    assert np.isnan(seen.counts()).all()
    assert "region" not in seen.adata.obs


def test_several_heads_are_averaged_on_one_embedding(folder: Path, tissue_pair: list[Section]) -> None:
    oracle = Oracle(*tissue_pair)
    rows = [Row(head, weights="oracle", head=head) for head in ("ridge", "retrieval", "ridge+retrieval")]
    models, train, test = Models(lambda name: oracle, folder), tissue_pair[:1], tissue_pair[1:]
    ridge, retrieval, mean = (models.predict(row, 0, ["KRT8", "COL1A1"], train, test)[0] for row in rows)
    np.testing.assert_allclose(mean, (ridge + retrieval) / 2, atol=1e-6)
    assert not np.allclose(ridge, retrieval)
    assert oracle.embedded == ["a", "b"]


def test_overrides_reach_a_model_without_a_recipe(tmp_path: Path) -> None:
    models = Models(_refuse, tmp_path)
    row = Row("own tile", model="colour-texture", head="ridge", overrides=["context_um=[]"])
    assert models.encoder(row, 0).config.context_um == []
    assert models.encoder(Row("default", model="colour-texture"), 0).config.context_um == [200.0, 400.0]


def test_an_ablation_is_trained_once_and_goes_on(
    folder: Path, tissue_pair: list[Section], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, work = tmp_path / "small.yaml", tmp_path / "work"
    recipe.write_text(TINY)
    rows = [
        Row("full", model="comtip", recipe=str(recipe), head="ridge"),
        Row("off", model="comtip", recipe=str(recipe), head="ridge", overrides=["objective.mfm=0"]),
    ]
    protocol = _protocol(rows=rows, seeds=[0, 1])
    first = run_protocol(protocol, folder, load=_refuse, work=work)
    assert len(list(work.iterdir())) == 4  # two seeds of two configurations
    by_hand = fingerprint("comtip", str(recipe), tissue_pair[:1], ["objective.mfm=0"])
    assert (work / f"comtip-small-seed1-{by_hand}" / "weights").is_dir()

    def never(*args: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("stzoo.plugins.comtip.model.CoMTIP.train", never)
    again = run_protocol(protocol, folder, load=_refuse, work=work)
    assert {s.row: s.metrics for s in again.scores} == {s.row: s.metrics for s in first.scores}
    assert all(score.seeds == 2 for score in first.scores)


def test_a_fingerprint_changes_with_what_is_trained(tissue_pair: list[Section], tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(TINY)
    a, b = tissue_pair
    same = fingerprint("comtip", str(recipe), [a], ["train.steps=2"])  # what the recipe says anyway
    assert same == fingerprint("comtip", str(recipe), [a])
    others = [
        fingerprint("comtip", str(recipe), [a], ["train.steps=3"]),
        fingerprint("comtip", str(recipe), [b]),
        fingerprint("comtip", str(recipe), [a.take_genes(a.genes[:20])]),
    ]
    assert len({same, *others}) == 4


def test_untrained_is_asked_of_models_that_offer_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(TINY)
    home = "stzoo.plugins.comtip.model.CoMTIP"
    protocol = _protocol(rows=[Row("random", model="comtip", recipe=str(recipe), head="ridge", untrained=True)])
    monkeypatch.delattr(f"{home}.initialise", raising=False)
    with pytest.raises(UsageError, match="untrained, which this model does not offer"):
        run_protocol(protocol, folder, load=_refuse)
    asked = []
    monkeypatch.setattr(f"{home}.initialise", lambda self, sections: asked.append(len(sections)), raising=False)

    def places(self: Any, section: Any, *share: Any, **options: Any) -> Iterator[tuple[slice, Any]]:
        yield slice(0, len(section)), section.um.astype(np.float32)

    monkeypatch.setattr(f"{home}.embed", lambda self, section, **options: section.um.astype(np.float32))
    monkeypatch.setattr(f"{home}.embed_blocks", places)
    assert run_protocol(protocol, folder, load=_refuse).scores[0].seeds == 1
    assert asked == [1]


def test_a_slip_in_the_last_row_is_found_before_the_first_is_run(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(TINY)
    rows = [Row("mean"), Row("slip", model="comtip", recipe=str(recipe), overrides=["objective.mfn=0"])]
    told: list[str] = []
    with pytest.raises(ConfigError, match="did you mean 'mfm'"):
        run_protocol(_protocol(rows=rows), folder, load=_refuse, tell=told.append)
    assert told == []


def test_a_row_whose_package_is_missing_says_so(folder: Path, tissue_pair: list[Section]) -> None:
    def missing(name: str) -> Any:
        raise PluginError("'x' needs the package y", todo="pip install y") from ImportError("y")

    result = run_protocol(_protocol(rows=[Row("mean"), Row("x", weights="x", head="ridge")]), folder, load=missing)
    assert {score.row for score in result.scores} == {"mean"}
    assert result.not_run == {"x": "'x' needs the package y (pip install y)"}

    def broken(name: str) -> Any:
        raise PluginError("'x' is broken")

    with pytest.raises(PluginError, match="broken"):
        run_protocol(_protocol(rows=[Row("x", weights="x", head="ridge")]), folder, load=broken)


def test_a_report_carries_conditions_and_makes_the_table(folder: Path) -> None:
    protocol = _protocol(warning="Mind the gap.")
    found = json.loads(json.dumps(report(protocol, run_protocol(protocol, folder, load=_refuse))))
    assert found["warning"] == "Mind the gap."
    assert found["protocol"]["train"] == ["a.zarr"]
    assert "train a.zarr; test b.zarr" in found["conditions"]
    head, body = lines(found)
    assert head == ["", "genes", "n", "PCC mean", "PCC median", "MSE", "constant"]
    assert body[0][:4] == ["mean", "mean", "6", "0.000"]
    assert [line[1] for line in body] == ["mean", "mean", "all", "all"]  # part by part, so that rows stand together


def test_shipped_protocols_load_and_a_leak_is_refused(tmp_path: Path) -> None:
    full, quick = load_protocol("her2st-c5"), load_protocol("her2st-c5-quick")
    assert isinstance(full, ExpressionProtocol)
    assert isinstance(quick, ExpressionProtocol)
    assert full.test == quick.test == ["her2st::C5"]
    assert full.seeds == [0, 1, 2]
    leak = tmp_path / "leak.yaml"
    leak.write_text("train: [x]\ntest: [x]\ngene_sets: [{name: g}]\nrows: [{name: m}]\n")
    with pytest.raises(ConfigError, match="in train and in test"):
        load_protocol(str(leak))


SPLIT = "train: [x]\ntest: [y]\ngene_sets: [{name: g}]\nrows: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: expresion\nrows: [{name: m}]\n", "did you mean 'expression'"),
        ("kind: clustering\nsections: [x]\ngene_sets: [{name: g}]\nrows: [{name: m}]\n", "unknown key 'gene_sets'"),
        ("kind: clustering\nrows: [{name: m}]\n", "'sections' is missing or empty"),
        (f"{SPLIT}[{{name: m}}, {{name: m}}]\n", "two rows are called 'm'"),
        (f"{SPLIT}[{{name: m, weights: w, overrides: [a=1]}}]\n", "has weights, and"),
        (f"{SPLIT}[{{name: m, model: comtip, untrained: true}}]\n", "needs a model and a recipe"),
        (f"{SPLIT}[{{name: m, recipe: r}}]\n", "needs a model and a recipe"),
    ],
)
def test_protocols_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_protocol(str(path))


def test_every_row_of_the_ablation_is_one_the_model_takes() -> None:
    from stzoo.core.training.recipes import load_recipe

    protocol = load_protocol("her2st-c5-ablation")
    configs = []
    for row in protocol.rows:
        if row.recipe:
            configs.append(str(load_recipe(row.model, row.recipe, row.overrides).config) + row.recipe + row.head)
            configs[-1] += str(row.untrained)
    assert len(set(configs)) == len(configs), "two rows are the same"


def test_a_control_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="does not know"):
        run_protocol(_protocol(rows=[Row("c", control="coordinates")]), folder, load=_refuse)
