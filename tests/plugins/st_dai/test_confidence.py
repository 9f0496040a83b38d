"""The confidence score generator: calibrated on measured adjacent spots, never on hidden ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from st_dai_stacks import full_section, scene_of, sparse, stack_of
from stzoo.core.arrays import Doubles
from stzoo.core.data.section import Stack
from stzoo.core.metrics.calibration import Calibration
from stzoo.plugins.st_dai.confidence import LEAST, Scores, compute_confidence_features, score_labels
from stzoo.plugins.st_dai.config import Confidence, CSGConfig
from stzoo.plugins.st_dai.inputs import StackInputs
from stzoo.plugins.st_dai.kriging import KrigingPredictions, krige
from stzoo.plugins.st_dai.pseudo import TransferredLabels, transfer

Parts = tuple[StackInputs, KrigingPredictions, TransferredLabels]


@pytest.fixture(scope="module")
def parts() -> Parts:
    scene = scene_of(stack_of(3)[0])
    return scene, krige(scene), transfer(scene, 4)


def scored(parts: Parts, seed: int = 0, **options: object) -> Scores:
    scene, kriged, moved = parts
    return score_labels(scene, kriged.genes, kriged, moved, CSGConfig(**options), seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Confidence.trained, Confidence.heuristic])
@pytest.mark.parametrize("per_gene", [False, True])
def test_weights_lie_between_0_and_1_for_each_spot_or_spot_and_gene(
    parts: Parts, kind: Confidence, per_gene: bool
) -> None:
    weight = scored(parts, kind=kind, per_gene=per_gene).weight
    assert weight.shape == (len(parts[0]), parts[0].y.shape[1] if per_gene else 1)
    assert ((weight > 0) & (weight < 1)).all()
    assert np.ptp(weight, axis=0).min() > 0.01


def test_off_trusts_all_alike(parts: Parts) -> None:
    found = scored(parts, kind=Confidence.none)
    assert (found.weight == 1).all()
    np.testing.assert_array_equal(found.explained, scored(parts).explained)


def test_the_same_seed_gives_the_same_bits_and_torch_is_left_as_it_was(parts: Parts) -> None:
    import torch

    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    found = scored(parts, seed=1).weight
    assert torch.equal(torch.rand(1), wanted)
    np.testing.assert_array_equal(scored(parts, seed=1).weight, found)
    assert not np.array_equal(scored(parts, seed=2).weight, found)


def test_labels_of_hidden_spots_are_never_compared_with_anything(parts: Parts) -> None:
    scene, kriged, moved = parts
    found, labels = scored(parts), kriged.genes.copy()
    own = scene.seen[scene.section[scene.seen] != scene.central]
    labels[np.setdiff1d(np.arange(len(scene)), own)] = 1e6
    again = score_labels(scene, labels, kriged, moved, CSGConfig(), seed=0)
    np.testing.assert_array_equal(again.weight, found.weight)
    np.testing.assert_array_equal(again.explained, found.explained)


def test_the_explained_share_is_that_of_measured_adjacent_spots_by_their_noise(parts: Parts) -> None:
    scene, kriged, _ = parts
    own = scene.section[scene.seen] != scene.central
    y, weight = scene.y[own], 1 / scene.noise[own]
    left = weight @ (kriged.genes[scene.seen[own]] - y) ** 2
    wanted = np.clip(1 - left / (weight @ y**2), 0, 1)
    np.testing.assert_allclose(scored(parts).explained, wanted)
    assert np.median(wanted) > 0.1


def test_signs_are_standard_over_adjacent_spots_and_dull_ones_say_nothing(parts: Parts) -> None:
    scene, found = parts[0], compute_confidence_features(*parts)
    own = found[scene.section != scene.central]
    assert found.shape == (len(scene), 7)
    assert (found[:, 1] == 0).all()  # no image, so no likeness
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.delete(own.std(axis=0), 1), 1)


def troubled() -> tuple[Parts, Doubles]:
    """A stack whose central section lacks one half: labels there are far from data. Also the true expression."""
    a, b = full_section(0, 14, 14, own=0.1), full_section(1, 14, 14, own=0.1)
    half = a.take(a.adata.obs["array_col"].to_numpy() < 7)
    chosen = np.random.default_rng(0).random(b.n_spots) < 0.35
    chosen |= b.adata.obs["array_row"].to_numpy() % 5 == 0
    scene = scene_of(Stack((half, sparse(b, chosen))))
    truth = np.concatenate([s.expression(target=1e4) for s in (half, b)]) - scene.means[scene.section]
    return (scene, krige(scene), transfer(scene, 4)), truth


def test_trained_weights_are_low_where_hidden_labels_are_wrong() -> None:
    parts, truth = troubled()
    scene, kriged, moved = parts
    found = score_labels(scene, moved.genes, kriged, moved, CSGConfig(), seed=0)
    hidden = (scene.section != scene.central) & ~scene.measured
    error = ((moved.genes - truth) ** 2 / scene.y.var(axis=0)).mean(axis=1)
    assert spearmanr(found.weight[hidden, 0], error[hidden]).statistic < -0.3
    assert found.weight[hidden & (moved.nearest > 1.5)].mean() < found.weight[hidden & (moved.nearest < 1)].mean()


def few(count: int) -> Parts:
    """A stack whose adjacent section has so many measured spots."""
    a, b = full_section(0), full_section(1)
    chosen = np.zeros(b.n_spots, dtype=bool)
    chosen[np.flatnonzero(b.depth > 100)[: 3 * count : 3]] = True
    scene = scene_of(Stack((a, sparse(b, chosen))))
    return scene, krige(scene), transfer(scene, 4)


@pytest.mark.parametrize("per_gene", [False, True])
def test_with_few_measured_spots_the_heuristic_stands_in(per_gene: bool) -> None:
    for count, same in ((LEAST - 1, True), (LEAST, False)):
        parts = few(count)
        options = [scored(parts, kind=kind, per_gene=per_gene) for kind in (Confidence.trained, Confidence.heuristic)]
        assert np.array_equal(options[0].weight, options[1].weight) == same


def test_the_heuristic_is_the_disagreement_of_two_predictions(parts: Parts) -> None:
    scene, kriged, moved = parts
    apart = np.abs(moved.genes - kriged.genes) / scene.y.std(axis=0)
    each = scored(parts, kind=Confidence.heuristic, per_gene=True).weight
    np.testing.assert_allclose(each, np.exp(-apart))
    one = scored(parts, kind=Confidence.heuristic).weight
    np.testing.assert_allclose(one[:, 0], np.exp(-apart.mean(axis=1)))


def test_the_generator_is_linear_below_forty_spots() -> None:
    """Then the logit is linear in the signs."""
    for count, linear in ((20, True), (50, False)):
        a, b = full_section(0), full_section(1)
        chosen = np.zeros(b.n_spots, dtype=bool)
        chosen[np.flatnonzero(b.depth > 50)[:count]] = True
        scene = scene_of(Stack((a, sparse(b, chosen))))
        parts = scene, krige(scene), transfer(scene, 4)
        weight = scored(parts).weight[:, 0]
        logit = np.log(weight / (1 - weight))
        inputs = np.column_stack([compute_confidence_features(*parts), np.ones(len(scene))])
        left = logit - inputs @ np.linalg.lstsq(inputs, logit, rcond=None)[0]
        assert (np.abs(left).max() < 1e-3) == linear


def test_confidence_follows_the_weight_along_the_curve() -> None:
    curve = Calibration(np.array([0.0, 0.5]), np.array([0.0, 0.8]))
    sure = Scores(np.array([[0.5], [1.0]]), np.array([0.0, 0.5, 0.9]), curve).estimate_confidence()
    np.testing.assert_allclose(sure, [[0, 0.4, 0.72], [0, 0.8, 0.8]], rtol=1e-6)


def test_the_curve_is_what_labels_explain_at_measured_adjacent_spots(parts: Parts) -> None:
    scene, kriged, _ = parts
    spots = scene.seen[scene.of_adjacent()]
    y = scene.y[scene.of_adjacent()]
    explained = 1 - (kriged.genes[spots] - y) ** 2 / y.std(axis=0) ** 2
    sure = scored(parts).estimate_confidence()[spots]
    for low, high in ((0.2, 0.7), (0.7, 1.0)):  # lower, shares are cut off at 0
        inside = (sure > low) & (sure <= high)
        assert abs(sure[inside].mean() - explained[inside].mean()) < 0.1
