"""Pseudo-labels: kriging that leaves a spot's own measurement out, and what the central section carries over."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from st_dai_stacks import full_section, quarter, scene_of, sparse, stack_of
from stzoo.core.arrays import Doubles
from stzoo.core.data.section import Stack
from stzoo.core.gp.fitting import NOISE, Choice
from stzoo.core.gp.kernels import Kernel
from stzoo.core.gp.stacked import blocks_around
from stzoo.plugins.st_dai import kriging
from stzoo.plugins.st_dai.inputs import StackInputs
from stzoo.plugins.st_dai.kriging import OWN, KrigingPredictions, krige
from stzoo.plugins.st_dai.pseudo import REACH, SHRINK, transfer

KERNEL, RATIO = Kernel(220.0, 0.75), 4


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel and one noise ratio for every column, whatever the data say."""

    def choose(seen: object, columns: Doubles, **options: object) -> Choice:
        count = columns.shape[1]
        return Choice([KERNEL], np.zeros(count, dtype=np.intp), np.full(count, RATIO))

    monkeypatch.setattr(kriging, "choose_kernels", choose)


def by_hand(scene: StackInputs, columns: Doubles, spot: int) -> Doubles:
    """Solve for one spot of the stack from all measured spots but itself."""
    rest = scene.seen != spot
    places, at = scene.places.take(scene.seen[rest]), scene.places.take(np.array([spot]))
    gram = KERNEL.between(places, places) + NOISE[RATIO] * np.diag(scene.noise[rest])
    return np.asarray(KERNEL.between(at, places) @ np.linalg.solve(gram, columns[rest]))[0]


@pytest.mark.usefixtures("fixed")
def test_every_label_is_what_a_gaussian_process_says_of_the_other_spots() -> None:
    scene = scene_of(stack_of(2, rows=7, cols=7)[0])
    found, loadings = krige(scene), scene.components.loadings.astype(np.float64)
    hidden = np.setdiff1d(np.arange(len(scene)), scene.seen)
    for spot in [*scene.seen[::9], *hidden[::9]]:
        genes = by_hand(scene, scene.y, spot)
        parts = by_hand(scene, scene.components.scores.astype(np.float64), spot)
        np.testing.assert_allclose(found.genes[spot], OWN * genes + (1 - OWN) * parts @ loadings, atol=1e-8)
        np.testing.assert_allclose(found.scores[spot], parts, atol=1e-8)
        np.testing.assert_allclose(found.depth[spot], by_hand(scene, scene.depth[:, None], spot)[0], atol=1e-8)


def perturbed(scene: StackInputs, spot: int, by: float) -> StackInputs:
    """Change what one spot measured; components as they were."""
    y = scene.y.copy()
    y[spot] += by
    components = replace(scene.components, scores=(y @ scene.components.loadings.T).astype(np.float32))
    return replace(scene, y=y, components=components)


@pytest.mark.usefixtures("fixed")
def test_a_measurement_moves_its_neighbours_labels_and_not_its_own() -> None:
    scene = scene_of(stack_of(2, rows=7, cols=7)[0])
    number = 24  # in the middle of the central section
    spot = scene.seen[number]
    before, after = krige(scene), krige(perturbed(scene, number, 50.0))
    np.testing.assert_allclose(after.genes[spot], before.genes[spot], atol=1e-5)
    np.testing.assert_allclose(after.scores[spot], before.scores[spot], atol=1e-4)
    away = np.linalg.norm(scene.places.um - scene.places.um[spot], axis=1)
    near = (away < 110) & (away > 0)
    assert np.abs(after.genes - before.genes)[near].max(axis=1).min() > 0.5


@pytest.mark.usefixtures("fixed")
def test_trust_is_the_known_share_of_the_signal_and_falls_with_distance() -> None:
    a, b = full_section(0, 7, 12), full_section(1, 7, 12)
    left = quarter(b) & (b.adata.obs["array_col"] < 5).to_numpy()
    scene = scene_of(Stack((a.take(a.adata.obs["array_col"].to_numpy() < 5), sparse(b, left))))
    trust = krige(scene).trust
    assert ((trust >= 0) & (trust <= 1 / (1 + NOISE[RATIO]) + 1e-12)).all()
    far, near = scene.places.um[:, 0] > 900, scene.places.um[:, 0] < 400
    assert trust[near].min() > 3 * trust[far].max()


def test_blocks_say_nearly_what_the_whole_says(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(stack_of(3, rows=12, cols=12)[0])
    whole = krige(scene)
    monkeypatch.setattr(kriging, "blocks_around", partial(blocks_around, exact=10, neighbourhood=120))
    blocks = krige(scene)

    def alike(a: Doubles, b: Doubles) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    for part in ("genes", "scores", "depth", "trust"):
        a, b = getattr(whole, part), getattr(blocks, part)
        assert not np.array_equal(a, b)
        assert alike(a, b) > 0.98, part
        for spots in (scene.seen, np.setdiff1d(np.arange(len(scene)), scene.seen)):
            assert alike(a[spots], b[spots]) > 0.98, part


def carried(scene: StackInputs, neighbours: int) -> tuple[Doubles, Doubles]:
    """Section 2.4 in loops: what the central section carries to each spot, before any offset, and how far it is."""
    own = scene.seen[scene.section[scene.seen] == scene.central]
    y = scene.y[scene.section[scene.seen] == scene.central]
    genes, nearest = np.zeros((len(scene), y.shape[1])), np.zeros(len(scene))
    for spot in range(len(scene)):
        distance = np.linalg.norm(scene.places.um[own] - scene.places.um[spot], axis=1)
        distance[own == spot] = np.inf
        near = np.argsort(distance, kind="stable")[:neighbours]
        weight = np.exp(-(distance[near] ** 2) / (2 * (scene.pitch / 2) ** 2))
        nearest[spot] = distance[near[0]] / scene.pitch
        if nearest[spot] <= REACH:
            genes[spot] = weight @ y[near] / weight.sum()
    return genes, nearest


def generic(stack: Stack) -> Stack:
    """Move every spot a little, so that no two distances are the same."""
    rng = np.random.default_rng(3)
    for section in stack.sections:
        section.adata.obsm["spatial_um"] = section.um + rng.uniform(-8, 8, section.um.shape)
    return stack


@pytest.mark.parametrize("neighbours", [1, 4])
def test_transfer_is_the_gaussian_mean_with_a_shrunk_offset_that_leaves_each_spot_out(neighbours: int) -> None:
    scene = scene_of(generic(stack_of(3, rows=8, cols=8)[0]))
    found, (genes, nearest) = transfer(scene, neighbours), carried(scene, neighbours)
    assert (nearest <= REACH).all()
    np.testing.assert_allclose(found.nearest, nearest, rtol=1e-9)
    own = scene.section == scene.central
    np.testing.assert_allclose(found.genes[own], genes[own], atol=1e-9)
    for number in scene.adjacent:
        spots = scene.seen[scene.section[scene.seen] == number]
        gap = scene.y[scene.section[scene.seen] == number] - genes[spots]
        for spot in np.flatnonzero(scene.section == number):
            others = gap[spots != spot]
            offset = others.sum(axis=0) / (len(others) + SHRINK)
            np.testing.assert_allclose(found.genes[spot], genes[spot] + offset, atol=1e-9)


def test_a_spots_own_measurement_is_not_in_what_is_carried_to_it() -> None:
    scene = scene_of(stack_of(2, rows=8, cols=8)[0])
    before = transfer(scene, 4)
    for number in (10, len(scene.seen) - 3):  # of the central section, of the sparse one
        spot = scene.seen[number]
        after = transfer(perturbed(scene, number, 50.0), 4)
        np.testing.assert_allclose(after.genes[spot], before.genes[spot], atol=1e-12)
        assert np.abs(after.genes - before.genes).max() > 1


def test_farther_than_the_reach_there_is_nothing_but_the_sections_mean() -> None:
    a, b = full_section(0, 8, 6), full_section(1, 8, 12)
    scene = scene_of(generic(Stack((a, sparse(b)))))
    found = transfer(scene, 4)
    far = found.nearest > REACH
    assert far.sum() > 20
    assert (scene.places.um[far, 0] > a.um[:, 0].max() + 100).all()
    np.testing.assert_array_equal(found.genes[far], 0.0)
    assert (found.around[far] == 0).all()
    offset = found.genes[~far & ~scene.measured] - carried(scene, 4)[0][~far & ~scene.measured]
    number = scene.adjacent[0]
    reached = scene.seen[scene.of_section(number)][~far[scene.seen[scene.of_section(number)]]]
    gap = scene.y[np.isin(scene.seen, reached)] - carried(scene, 4)[0][reached]
    np.testing.assert_allclose(offset, np.broadcast_to(gap.sum(axis=0) / (len(gap) + SHRINK), offset.shape), atol=1e-9)
    assert np.abs(found.genes[~far]).max(axis=1).min() > 0


def test_likeness_is_the_cosine_of_image_features() -> None:
    scene = scene_of(stack_of(2, rows=6, cols=6)[0])
    assert (transfer(scene, 4).alike == 0).all()
    features = np.random.default_rng(0).normal(size=(len(scene), 3))
    same = np.broadcast_to([1.0, 2.0, 3.0], features.shape)
    alike = transfer(replace(scene, places=replace(scene.places, features=features)), 1).alike
    central = np.flatnonzero(scene.section == scene.central)
    spot = np.flatnonzero(scene.section != scene.central)[7]
    near = central[np.linalg.norm(scene.places.um[central] - scene.places.um[spot], axis=1).argmin()]
    lengths = np.linalg.norm(features[spot]) * np.linalg.norm(features[near])
    assert alike[spot] == pytest.approx(features[spot] @ features[near] / lengths)
    np.testing.assert_allclose(transfer(replace(scene, places=replace(scene.places, features=same)), 4).alike, 1)


def test_kriged_labels_are_better_than_none() -> None:
    stack, whole = stack_of(3)
    scene = scene_of(stack)
    truth = np.concatenate([section.expression(target=1e4) for section in whole]) - scene.means[scene.section]
    hidden = np.setdiff1d(np.arange(len(scene)), scene.seen)

    def error(found: KrigingPredictions | None) -> float:
        return float(((truth - (0 if found is None else found.genes))[hidden] ** 2).mean())

    assert error(krige(scene)) < 0.8 * error(None)
