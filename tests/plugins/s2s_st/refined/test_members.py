"""S2S-ST's refined variant: smooth factors, context, and how several maps of a gene are weighed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from s2s_st_sections import patches, truth_of
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.members import Members, learn_weights, stack_members, weigh_equally
from stzoo.plugins.s2s_st.refined.processes import Context, Position, smooth_factors


@pytest.fixture(scope="module")
def scene() -> RefinedInputs:
    section = patches(26, 26, genes=8)
    hidden = section.hide(section.measured)
    return RefinedInputs.of(hidden, hidden.expression(), 4, seed=0)


# Factors


def test_the_smoothest_direction_comes_first_however_small_it_is():
    points = np.argwhere(np.ones((20, 20))).astype(float)
    rng = np.random.default_rng(0)
    smooth = np.sin(points[:, 0] / 4) * np.cos(points[:, 1] / 5)
    scores = np.column_stack([5 * rng.normal(size=400), 4 * rng.normal(size=400), smooth + 0.15 * rng.normal(size=400)])
    scores = (scores - scores.mean(axis=0)) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]  # mixed
    found = smooth_factors(scores, points, np.ones(400), 2)
    assert found.shape == (400, 2)
    assert abs(np.corrcoef(found[:, 0], smooth)[0, 1]) > 0.9
    assert abs(np.corrcoef(found[:, 1], smooth)[0, 1]) < 0.3
    # in units of noise: white noise has variance 1, what is smooth has more
    assert found[:, 0].var() > 2
    assert found[:, 1].var() == pytest.approx(1, abs=0.2)


def test_factors_do_not_depend_on_the_units_of_the_scores():
    rng = np.random.default_rng(1)
    points, scores = rng.random((90, 2)), rng.normal(size=(90, 4))
    weights = rng.random(90) + 0.1
    a, b = (smooth_factors(factor * scores, points, weights, 4) for factor in (1.0, 1000.0))
    np.testing.assert_allclose(np.abs(a), np.abs(b), rtol=1e-6)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (5, 0), (6, 3)])
def test_without_variation_or_neighbours_there_is_no_factor(n, k):
    assert smooth_factors(np.zeros((n, k)), np.random.default_rng(0).random((n, 2)), np.ones(n), 8).shape == (n, 0)


# Context and members


def test_what_is_predicted_is_read_off_the_given_spots_only(scene):
    processes = [Position.of(scene), Context.of(scene)]
    genes, held = np.arange(8), np.random.default_rng(2).random(len(scene.seen)) < 0.3
    left, asked = np.flatnonzero(~held), scene.seen[held]
    poisoned = scene.columns.copy()
    poisoned[held] = 1e6
    factors = processes[1].factors.copy()
    factors[held] = 1e6
    found = Members.of(scene, processes, left, asked, genes)
    told = Members.of(
        replace(scene, columns=poisoned), [processes[0], replace(processes[1], factors=factors)], left, asked, genes
    )
    assert len(found.maps) == len(found.trust) == 3
    for a, b in zip([*found.maps, *found.trust], [*told.maps, *told.trust], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape == (held.sum(), 8)


def test_weights_of_a_known_mixture_are_found():
    rng = np.random.default_rng(0)
    spread, true = rng.random(6) + 0.5, np.array([0.7, 0.0, 0.4])
    parts, truth, noise = [], [], []
    for n in (30, 200):
        maps = [rng.normal(size=(n, 6)) * spread for _ in true]
        variance = rng.random(n) + 0.5
        mixed = sum(w * m for w, m in zip(true, maps, strict=True)) / spread
        parts.append(Members(maps, [np.ones((n, 6))] * 3))
        truth.append(mixed + 0.1 * rng.normal(size=(n, 6)) * np.sqrt(variance)[:, None])
        noise.append(variance)
    np.testing.assert_allclose(stack_members(parts, truth, noise, spread), true, atol=0.02)
    against = stack_members(parts, [-t for t in truth], noise, spread)
    assert (against >= 0).all()


def test_noisy_spots_count_less():
    maps = [np.array([[1.0], [1.0]])]
    truth = [np.array([[0.0], [1.0]])]
    weight = stack_members([Members(maps, maps)], truth, [np.array([4.0, 1.0])], np.ones(1))
    assert weight[0] == pytest.approx(0.8)


def test_learned_weights_predict_better_than_equal_ones_and_trust_is_a_share(scene):
    section = patches(26, 26, genes=8)
    truth = truth_of(section)[~section.measured]
    processes = [Position.of(scene), Context.of(scene)]
    weights, calibration = learn_weights(scene, processes, np.random.default_rng(0))
    assert (weights >= 0).all()
    assert 0.5 < weights.sum() < 1.5
    at = np.flatnonzero(~section.measured)
    found = Members.of(scene, processes, np.arange(len(scene.seen)), at, np.arange(8))
    errors = []
    for w in (weights, weigh_equally(processes)):
        value, trust = found.combine(w)
        errors.append(((scene.add_means(value, np.arange(8)) - truth) ** 2).mean())
        assert ((trust >= 0) & (trust <= 1)).all()
    assert errors[0] <= 1.01 * errors[1]
    assert np.ptp(calibration.apply(np.linspace(0, 1, 9))) > 0.2


def test_without_context_the_maps_of_one_process_are_weighed(scene):
    processes = [Position.of(scene)]
    assert len(weigh_equally(processes)) == 2
    weights, _ = learn_weights(scene, processes, np.random.default_rng(0))
    assert len(weights) == 2
    assert weights.sum() > 0.5
