"""Sections that judge a training: which are refused, and what of them is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, GeneError, StzooError, UsageError
from stzoo.core.heads import held_out_sections as held_out
from stzoo.core.heads.held_out_sections import HeldOut
from stzoo.core.io.synthetic import synthetic_section

GENES = ["ERBB2", "CD74", "COL1A1", "KRT18"]


def tissue(seed: int, **fields: str) -> Section:
    return replace(synthetic_section(side_um=1000, pitch_um=100, seed=seed, name=f"s{seed}"), **fields)


@pytest.fixture(scope="module")
def learned() -> list[Section]:
    return [tissue(0, source="folder/a::s0"), tissue(1)]


def renamed(section: Section) -> Section:
    other = section.take(np.arange(len(section)))
    other.adata.var_names = [f"Gene{i}" for i in range(other.n_genes)]
    return other


def dull(section: Section) -> Section:
    other = section.take(np.arange(len(section)))
    other.adata.X = np.ones(other.adata.shape, dtype=np.float32)
    return other


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (lambda: [tissue(5, source="folder/../folder/a::s0")], UsageError, "trained on as well(.|\n)*take it out"),
        (lambda: [tissue(1, name="a copy", source="b.h5ad")], UsageError, "'a copy' is to validate"),
        (lambda: [tissue(2), tissue(2, name="again")], UsageError, "'again' is given twice"),
        (lambda: [replace(tissue(2), slide=None)], DataError, "'s2' has no slide image"),
        (lambda: [tissue(2).hide(np.arange(81) < 7)], DataError, "'s2' has 7 measured spots with counts"),
        (lambda: [renamed(tissue(2))], GeneError, "'s2' has none of the 4 genes that are scored"),
        (lambda: [dull(tissue(2))], DataError, "no gene of 's2' varies"),
    ],
)
def test_sections_that_can_not_judge(given, error: type[StzooError], said: str, learned: list[Section]) -> None:
    with pytest.raises(error, match=said):
        HeldOut(learned, given(), GENES)


def test_of_many_spots_some_are_looked_at_and_always_the_same(
    learned: list[Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "MOST", 20)
    found = [HeldOut(learned, [tissue(2)], GENES) for _ in range(2)]
    assert [[len(section) for section in side] for side in (found[0].learn, found[0].held)] == [[10, 10], [20]]
    np.testing.assert_array_equal(found[0].held[0].um, found[1].held[0].um)
    assert np.ptp(found[0].held[0].um[:, 1]) == np.ptp(tissue(2).um[:, 1])  # over the whole section
    assert not any(section.measured.any() for section in (*found[0].learn, *found[0].held))  # no counts go further


def test_the_truth_itself_scores_one_and_noise_nothing(learned: list[Section]) -> None:
    held = tissue(2)
    judge = HeldOut(learned, [held], GENES)
    truth = held.expression(GENES, target=1e4)
    assert judge.pcc([truth]) == pytest.approx(1)
    assert judge.pcc([np.ones_like(truth)]) == 0
    rng = np.random.default_rng(0)
    seen = [section.expression(GENES, target=1e4) for section in (*learned, held)]
    noise = [rng.standard_normal((len(values), 3)).astype(np.float32) for values in seen]
    assert judge.ridge_pcc(seen[:2], seen[2:]) > 0.99
    assert abs(judge.ridge_pcc(noise[:2], noise[2:])) < 0.2


def test_genes_that_a_section_lacks_are_not_scored_there(learned: list[Section]) -> None:
    few = tissue(2).take_genes(["CD74", "KRT18"])
    judge = HeldOut(learned, [few, tissue(3)], GENES)
    assert judge.known == [["CD74", "KRT18"], GENES]


def test_patients_that_were_trained_on_are_told(learned: list[Section]) -> None:
    own, held = [], tissue(2)
    for section in learned:
        section = section.take(np.arange(len(section)))
        section.adata.obs["patient"] = "A"
        own.append(section)
    assert HeldOut(own, [held], GENES).describe() == {"sections": ["s2"], "same_patient": False}
    held.adata.obs["patient"] = "A"
    assert HeldOut(own, [held], GENES).same_patient
