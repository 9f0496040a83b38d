from __future__ import annotations

from huggingface_hub import ModelCard
from stzoo.zoo.cards import Card, Figure

CARD = Card(
    name="toy-tiny",
    summary="An offset: not for findings.",
    license="Apache-2.0",
    base_model="owner/base",
    tags=("encoder", "breast"),
    datasets=("her2st",),
    figures=(Figure("her2st", "C5", "pcc_mean", 0.25123, "her2st-c5"),),
    sections={"Data": "Three sections.\n", "Limits": "One patient: *no*."},
)


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
    assert text.index("# toy-tiny") < text.index("## Data") < text.index("## Limits") < text.index("## Figures")
    assert "| her2st | C5 | `her2st-c5` | pcc_mean | 0.2512 |" in text


def test_what_could_break_yaml_does_not():
    card = Card(name="a: b # c", summary="x", license="other", tags=("yes", "- [", "null", "a: b"), datasets=('"',))
    data = ModelCard(card.render()).data
    assert data.tags[1:] == ["yes", "- [", "null", "a: b"]
    assert data.datasets == ['"']
    assert data.eval_results is None
