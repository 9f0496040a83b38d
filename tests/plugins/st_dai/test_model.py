"""ST-DAI at its interface: what it may read, what it returns, what every option does, and whether it helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from st_dai_stacks import full_section, hidden_pcc, imputer, layers, quarter, same, scene_of, sparse, stack_of
from stzoo.core.data.section import Stack
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model


@pytest.fixture(scope="module")
def stack() -> Stack:
    return stack_of(3)[0]


@pytest.fixture(scope="module")
def done(stack: Stack) -> Stack:
    return imputer().impute(stack)


def test_measured_spots_come_back_and_the_rest_is_filled(stack: Stack, done: Stack) -> None:
    for before, after in zip(stack.sections, done.sections, strict=True):
        seen = before.measured
        values, sure = after.adata.layers["imputed"], after.adata.layers["confidence"]
        np.testing.assert_array_equal(values[seen], before.expression(target=1e4)[seen])
        assert (sure[seen] == 1).all()
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert ((sure >= 0) & (sure <= 1)).all()
        assert values.dtype == sure.dtype == np.float32
    hidden = ~stack.sections[0].measured
    assert np.ptp(layers(done)[0][hidden], axis=0).min() > 0.1
    assert np.ptp(layers(done, "confidence")[0][hidden]) > 0.1


def test_what_hidden_spots_hold_changes_nothing(stack: Stack, done: Stack) -> None:
    poisoned = []
    for section in stack.sections:
        adata = section.adata.copy()
        adata.X[~section.measured] = np.random.default_rng(0).integers(0, 9999, ((~section.measured).sum(), 24))
        poisoned.append(replace(section, adata=adata))
    assert same(imputer().impute(Stack(tuple(poisoned))), done)


def test_values_given_for_hidden_spots_are_not_read(stack: Stack) -> None:
    """A caller of ``fill`` that leaks values is not believed."""
    hidden = tuple(section.hide(section.measured) for section in stack.sections)
    given = [section.expression(target=1e4) for section in hidden]
    leaked = [np.where(np.isnan(values), 77.0, values).astype(np.float32) for values in given]
    clean, other = (imputer().fill(Stack(hidden), values) for values in (given, leaked))
    for a, b in zip(clean, other, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.confidence, b.confidence)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(stack: Stack, done: Stack) -> None:
    assert same(imputer().impute(stack), done)
    other = imputer(seed=1).impute(stack)
    hidden = ~stack.sections[0].measured
    assert not np.array_equal(layers(other)[0][hidden], layers(done)[0][hidden])
    assert np.median(per_gene_pcc(layers(other)[0][hidden], layers(done)[0][hidden])) > 0.95


@pytest.mark.parametrize(
    "options",
    [{}, {"refine": {"tune": "none"}}, {"refine": {"steps": 0}}, {"pseudo": {"source": "none"}}],
    ids=["whole", "none", "no steps", "none"],
)
def test_progress_rises_to_its_total(stack: Stack, options: dict[str, Any]) -> None:
    told: list[tuple[int, int]] = []
    imputer(**options).impute(stack, progress=lambda done, total: told.append((done, total)))
    dones, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert list(dones) == sorted(dones)
    assert len(told) > 10
    assert dones[-1] == totals[-1]


def test_it_beats_the_gene_mean_and_what_is_carried_over() -> None:
    stack, whole = stack_of(3)
    mine = imputer(network={"steps": 30}, refine={"steps": 30}).impute(stack)
    carried = model("transfer").impute(stack)
    assert hidden_pcc(mine, whole) > hidden_pcc(carried, whole) + 0.05
    for number in (0, 2):
        hidden = ~stack.sections[number].measured
        truth = whole[number].expression(target=1e4)
        mean = truth[~hidden].mean(axis=0)
        errors = [
            float(((x - truth)[hidden] ** 2).mean()) for x in (layers(mine)[number], mean, layers(carried)[number])
        ]
        assert errors[0] < 0.9 * errors[1]
        assert errors[0] < 0.9 * errors[2]


def test_confidence_is_higher_for_genes_that_are_explained_better() -> None:
    stack, whole = stack_of(3)
    done = imputer().impute(stack)
    for number in (0, 2):
        hidden = ~stack.sections[number].measured
        truth = whole[number].expression(target=1e4)
        weight = np.sqrt(whole[number].depth[hidden])  # shallow spots are noise
        mean, sure = truth[~hidden].mean(axis=0), layers(done, "confidence")[number][hidden]
        left, all_of_it = (
            np.average((x - truth)[hidden] ** 2, axis=0, weights=weight) for x in (layers(done)[number], mean)
        )
        assert np.corrcoef(sure.mean(axis=0), 1 - left / all_of_it)[0, 1] > 0.2


def test_labels_do_not_depend_on_the_order_of_sections(stack: Stack) -> None:
    """With the labels alone (share 0): the network draws spots by their place in the stack, and differs a little."""
    order = (2, 0, 1)
    turned = Stack(tuple(stack.sections[i] for i in order))
    for share, tolerance in ((0.0, 1e-3), (0.5, 0.5)):
        straight, mixed = (imputer(share=share).impute(one) for one in (stack, turned))
        for place, number in enumerate(order):
            np.testing.assert_allclose(layers(mixed)[place], layers(straight)[number], atol=tolerance)
    hidden = ~stack.sections[2].measured
    assert not np.array_equal(layers(mixed)[0][hidden], layers(straight)[2][hidden])
    assert np.median(per_gene_pcc(layers(mixed)[0][hidden], layers(straight)[2][hidden])) > 0.95


def test_the_order_of_spots_changes_nothing_but_rounding(stack: Stack) -> None:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(section.n_spots) for section in stack.sections]
    mixed = Stack(tuple(s.take(order) for s, order in zip(stack.sections, orders, strict=True)))
    a, b = (imputer(share=0.0).impute(one) for one in (stack, mixed))
    for x, y, order in zip(layers(a), layers(b), orders, strict=True):
        np.testing.assert_allclose(y, x[order], atol=1e-3)


SWITCHES: list[dict[str, Any]] = [
    {"share": 0.0},
    {"share": 1.0},
    {"residual": False},
    {"pseudo": {"source": "transfer"}},
    {"pseudo": {"source": "none"}},
    {"pseudo": {"source": "model"}, "residual": False, "network": {"learn": "central"}},
    {"pseudo": {"source": "blend"}, "residual": False, "network": {"learn": "central"}},
    {"pseudo": {"where": "central"}},
    {"pseudo": {"components": 2}},
    {"pseudo": {"source": "transfer", "neighbours": 1}},
    {"network": {"learn": "central"}},
    {"network": {"dropout": 0.0}},
    {"network": {"depth": 1}},
    {"refine": {"tune": "head"}},
    {"refine": {"tune": "pdl_head"}},
    {"refine": {"tune": "all"}},
    {"refine": {"tune": "none"}},
    {"refine": {"measured": 0.0}},
    {"refine": {"pseudo": 0.0}},
    {"refine": {"replay": 0.0}},
    {"refine": {"penalty": 10.0}},
    {"pdl": {"rank": 0}},
    {"pdl": {"rank": 8}},
    {"pdl": {"layers": 2}},
    {"pdl": {"shared": True}},
    {"csg": {"kind": "heuristic"}},
    {"csg": {"kind": "none"}},
    {"csg": {"per_gene": True}},
]


@pytest.fixture(scope="module")
def small() -> Stack:
    return stack_of(3, rows=8, cols=8)[0]


@pytest.fixture(scope="module")
def plain(small: Stack) -> Stack:
    return imputer().impute(small)


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_every_switch_changes_the_result_and_keeps_the_contract(
    small: Stack, plain: Stack, options: dict[str, Any]
) -> None:
    found = imputer(**options).impute(small)
    assert not same(found, plain)
    for section in found.sections:
        assert ((section.adata.layers["confidence"] >= 0) & (section.adata.layers["confidence"] <= 1)).all()
        assert (section.adata.layers["imputed"] >= 0).all()
        assert section.adata.layers["imputed"].max() < 2 * plain.sections[1].adata.layers["imputed"].max()


def test_share_mixes_label_and_network(small: Stack) -> None:
    none, half, one = (imputer(share=share).impute(small) for share in (0.0, 0.5, 1.0))
    for a, b, c in zip(layers(none), layers(half), layers(one), strict=True):
        inside = (a > 0.05) & (c > 0.05)  # not cut off at 0
        np.testing.assert_allclose(b[inside], (a + c)[inside] / 2, atol=1e-5)


def test_without_labels_share_has_no_say(small: Stack) -> None:
    a, b = (imputer(share=share, pseudo={"source": "none"}).impute(small) for share in (0.0, 1.0))
    assert same(a, b)


def test_the_report_counts_what_was_trained(small: Stack) -> None:
    genes, parts, width, depth = 24, 6, 16, 2
    network = (parts + 1) * width + depth * (2 * width + 2 * (width + 1) * width) + 2 * width + (width + 1) * parts
    for tune, wanted in (
        ("pdl", 2 * width + 2 * width * 2),
        ("head", 2 * width + (width + 1) * parts),
        ("all", network),
        ("none", 0),
    ):
        filler = imputer(refine={"tune": tune})
        assert filler.report is None
        assert filler.impute(small).sections[0].n_genes == genes
        assert filler.report is not None
        assert (filler.report.parameters, filler.report.tuned) == (network, wanted)
        assert filler.report.source_seconds > 0
        assert (filler.report.refine_seconds > 0) is (tune != "none")
        assert (filler.report.refine_cpu_seconds > 0) is (tune != "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pseudo": {"source": "model"}}, "pseudo.source=model .*residual=false"),
        ({"pseudo": {"source": "blend"}}, "pseudo.source=blend"),
        ({"pseudo": {"source": "blend"}, "residual": False}, "set network.learn=central"),
        ({"input": "image"}, "input=image needs an encoder"),
        ({"input": "image_expression"}, "input=image_expression needs an encoder"),
        ({"train_encoder": True}, "train_encoder.*encoder is none"),
        ({"train_encoder": True, "encoder": "auto"}, "train_encoder.*encoder is auto"),
        ({"share": 1.5}, r"share is 1\.5"),
        ({"network": {"dropout": 1.0}}, r"network\.dropout is 1\.0"),
        ({"network": {"width": 2}}, r"network\.width is 2"),
        ({"network": {"steps": 0}}, r"network\.steps is 0"),
        ({"network": {"learning_rate": 0.0}}, r"network\.learning_rate is 0\.0"),
        ({"pdl": {"rank": -1}}, r"pdl\.rank is -1"),
        ({"pdl": {"layers": 0}}, r"pdl\.layers is 0"),
        ({"pdl": {"layers": 3}}, r"pdl\.layers is 3, expected at most network\.depth, 2"),
        ({"refine": {"steps": -1}}, r"refine\.steps is -1"),
        ({"refine": {"learning_rate": -1.0}}, r"refine\.learning_rate is -1\.0"),
        ({"refine": {"batch_pseudo": -1}}, r"refine\.batch_pseudo is -1"),
        ({"refine": {"penalty": -1.0}}, r"refine\.penalty is -1\.0"),
        ({"pseudo": {"components": 0}}, r"pseudo\.components is 0"),
        ({"pseudo": {"neighbours": 0}}, r"pseudo\.neighbours is 0"),
        ({"refine": {"tune": "everything"}}, "refine.tune"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        imputer(**options)


def test_one_section_is_refused() -> None:
    with pytest.raises(DataError, match="the stack has one section"):
        imputer().impute(Stack((sparse(full_section(0)),)))
    with pytest.raises(DataError, match="the stack has one section"):
        imputer().impute(sparse(full_section(0)))


def test_genes_that_never_vary_keep_their_mean(small: Stack) -> None:
    sections = []
    for section in small.sections:
        adata = section.adata.copy()
        adata.X[:, 3] = 0.0
        sections.append(replace(section, adata=adata))
    found = imputer().impute(Stack(tuple(sections)))
    for values in layers(found):
        np.testing.assert_array_equal(values[:, 3], 0.0)


def test_two_sections_and_two_genes_are_enough() -> None:
    a, b = full_section(0, 6, 6, genes=2), full_section(1, 6, 6, genes=2)
    chosen = np.zeros(b.n_spots, dtype=bool)
    chosen[14] = True
    found = imputer().impute(Stack((a, sparse(b, chosen))))
    assert all(np.isfinite(values).all() for values in layers(found))


def test_spots_measured_without_a_count_teach_nothing(small: Stack) -> None:
    """They keep their zeros, and whether they are there or hidden makes no difference to the others."""
    section = small.sections[0]
    empty = np.flatnonzero(quarter(section))[:2]
    adata = section.adata.copy()
    adata.X[empty] = 0.0
    emptied, fewer = replace(section, adata=adata), quarter(section)
    fewer[empty] = False
    assert len(scene_of(Stack((emptied, *small.sections[1:]))).seen) == len(scene_of(small).seen) - 2
    a = imputer(share=0.0).impute(Stack((emptied, *small.sections[1:])))
    b = imputer(share=0.0).impute(Stack((sparse(section, fewer), *small.sections[1:])))
    rest = np.setdiff1d(np.arange(section.n_spots), empty)
    np.testing.assert_allclose(layers(a)[0][rest], layers(b)[0][rest], atol=1e-5)
    np.testing.assert_array_equal(layers(a)[0][empty], 0.0)


def test_a_saved_imputer_comes_back_with_its_options(tmp_path: Path, small: Stack, plain: Stack) -> None:
    folder = imputer().save(tmp_path / "st-dai")
    back = type(imputer()).load(folder)
    assert same(back.impute(small), plain)
