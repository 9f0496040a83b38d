from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard
from stzoo.core.errors import UsageError
from stzoo.zoo.cards import Card, CardScore, describe_choice, scores_from

CARD = Card(
    name="toy-tiny",
    summary="An offset: not for findings.",
    license="Apache-2.0",
    base_model="owner/base",
    tags=("encoder", "breast"),
    datasets=("her2st",),
    scores=(CardScore("her2st", "C5", "pcc_mean", 0.25123, "her2st-c5"),),
    sections={"Data": "Three sections.\n", "Limits": "One patient: *no*."},
)


def _score(row: str, part: str, pcc: float, seeds: int = 1) -> dict[str, Any]:
    sd = {"n": 0.0, "pcc_mean": 0.01 if seeds > 1 else 0.0}
    return {"row": row, "part": part, "seeds": seeds, "figures": {"n": 250, "pcc_mean": pcc}, "sd": sd}


def _report(parts: tuple[str, ...] = ("mean", "variance")) -> dict[str, Any]:
    rows = [
        {"name": "gene mean", "recipe": "", "weights": "", "overrides": []},
        {"name": "toy, ridge", "recipe": "toy-tiny", "weights": "", "overrides": []},
        {"name": "toy without half", "recipe": "toy-tiny", "weights": "", "overrides": ["half=0"]},
    ]
    values = {"gene mean": (0.0, 1), "toy, ridge": (0.31234, 3), "toy without half": (0.2, 3)}
    return {
        "protocol": {
            "name": "her2st-c5",
            "question": "Which part?",
            "train": ["her2st::C2"],
            "test": ["her2st::C5"],
            "rows": rows,
            "warning": "Mind the gap.",
        },
        "conditions": "train her2st::C2; test her2st::C5",
        "columns": [["n", "n", 0], ["pcc_mean", "PCC mean", 3]],
        "scores": [_score(row, part, value, seeds) for row, (value, seeds) in values.items() for part in parts],
    }


def test_the_hub_reads_the_metadata_of_a_card():
    data = ModelCard(CARD.render()).data
    assert (data.library_name, data.license, data.base_model) == ("stzoo", "apache-2.0", "owner/base")
    assert data.tags == ["spatial-transcriptomics", "encoder", "breast"]
    assert data.datasets == ["her2st"]
    (result,) = data.eval_results
    assert (result.dataset_name, result.dataset_split, result.metric_type) == ("her2st", "C5", "pcc_mean")
    assert result.metric_value == 0.25123


def test_a_reader_finds_every_section_and_figure():
    text = CARD.render()
    assert text.index("# toy-tiny") < text.index("## Data") < text.index("## Limits") < text.index("## Scores")
    assert "### her2st C5: `stzoo evaluate her2st-c5`" in text
    assert "0.2512 |" in text


def test_what_could_break_yaml_does_not():
    card = Card(name="a: b # c", summary="x", license="other", tags=("yes", "- [", "null", "a: b"), datasets=('"',))
    data = ModelCard(card.render()).data
    assert data.tags[1:] == ["yes", "- [", "null", "a: b"]
    assert data.datasets == ['"']
    assert data.eval_results is None


def test_an_evaluation_makes_the_figures_of_a_card_with_baselines_beside():
    scores = scores_from(_report(), recipe="toy-tiny")
    card = Card(name="toy-tiny", summary="x", license="MIT", scores=scores).render()
    assert "| **toy, ridge** | mean | 250 | 0.312 ± 0.010 |" in card
    assert "| gene mean | mean | 250 | 0.000 |" in card
    assert "| toy without half |" in card  # an ablation is not the model
    assert "Which part? train her2st::C2; test her2st::C5." in card
    assert "Mind the gap." in card
    results = ModelCard(card).data.eval_results
    assert {(r.dataset_name, r.dataset_split) for r in results} == {("her2st", "C5")}
    assert [r.metric_value for r in results if r.metric_type == "pcc_mean"] == [0.31234, 0.31234]
    assert all("toy, ridge" in r.metric_name and "her2st-c5" in r.metric_name for r in results)


def test_several_evaluations_are_several_tables():
    other = _report()
    other["protocol"] = {**other["protocol"], "name": "other", "test": [], "sections": ["dlpfc/h5ad/151673.h5ad"]}
    scores = [*scores_from(_report(), "toy, ridge"), *scores_from(other, "toy, ridge")]
    card = Card(name="toy-tiny", summary="x", license="MIT", scores=scores).render()
    assert card.index("### her2st C5: `stzoo evaluate her2st-c5`") < card.index(
        "### dlpfc 151673: `stzoo evaluate other`"
    )


def test_many_parts_are_shown_by_the_first_and_others_on_request():
    report = _report(("all", "keratins", "collagens"))
    assert {f.part for f in scores_from(report, "toy, ridge")} == {"all"}
    assert {f.part for f in scores_from(report, "toy, ridge", parts=["keratins"])} == {"keratins"}


def test_a_card_of_another_model_is_refused():
    with pytest.raises(UsageError, match="no row of 'her2st-c5' measured 'toy-large'"):
        scores_from(_report(), recipe="toy-large")


def test_a_card_says_what_chose_the_weights() -> None:
    said = {"sections": ["C4"], "same_patient": True, "watched": "zero_shot_pcc", "step": 50, "planned": 300}
    scores = {"zero_shot_pcc": 0.2664, "ridge_pcc": 0.335}
    text = describe_choice({**said, "figures": scores, "steps": 150})["Chosen by validation"]
    assert "after step 50 of 300; the run ended early, after 150." in text
    assert "highest zero_shot_pcc on C4: 0.266 (ridge_pcc 0.335)" in text
    assert "a patient that was" in text
    whole = describe_choice({**said, "figures": {"zero_shot_pcc": 0.2664}, "steps": 300, "same_patient": False})
    assert not any(word in whole["Chosen by validation"] for word in ("early", "patient", "()"))
    assert describe_choice({}) == {}
