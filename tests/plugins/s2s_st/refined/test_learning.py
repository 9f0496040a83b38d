"""S2S-ST's refined variant: what its refiner learns from photographs, and from dropped spots of the section."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from s2s_st_sections import patches
from scipy.ndimage import gaussian_filter
from stzoo.core.errors import DataError
from stzoo.core.registry import model
from stzoo.core.training.loop import fit
from stzoo.plugins.s2s_st.config import RefinedConfig, RefinerConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.refined import photograph_training as photographs
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.photograph_training import PhotographTask
from stzoo.plugins.s2s_st.refined.processes import Position
from stzoo.plugins.s2s_st.refined.refiner import Refiner
from stzoo.plugins.s2s_st.refined.section_training import SparserTask, choose_columns, drop_spots, prepare_examinations
from stzoo.plugins.s2s_st.refined.variant import fit_refined

SMALL = RefinerConfig(channels=16, dilations=[1, 2, 4])


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Small crops and few masks: nothing else depends on their numbers."""
    monkeypatch.setattr(photographs, "SIDE", 24)
    monkeypatch.setattr(photographs, "MASKS", 3)


def blobs(count: int = 3, side: int = 160) -> NaturalImages:
    """Flat regions with sharp edges."""
    rng = np.random.default_rng(0)
    smooth = [gaussian_filter(rng.normal(size=(side, side)), 10) for _ in range(count)]
    images = [np.digitize(x / x.std(), (-0.5, 0.5)) * 90 + 30 for x in smooth]
    return NaturalImages.of([image.astype(np.uint8) for image in images])


def refiner(seed: int = 0) -> Refiner:
    torch.manual_seed(seed)
    return Refiner(SMALL)


def on_photographs(module: Refiner | None = None, *, steps: int = 30, batch: int = 6, seed: int = 0) -> PhotographTask:
    module = refiner() if module is None else module
    return PhotographTask(module, blobs(), steps=steps, batch=batch, learning_rate=8e-3, seed=seed)


def batches(task: PhotographTask, steps: list[int]) -> dict[int, torch.Tensor]:
    """What the refiner reads in each step."""
    seen: list[torch.Tensor] = []
    hook = task.refiner.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    for step in steps:
        task.losses(step, torch.Generator().manual_seed(0))
    hook.remove()
    return dict(zip(steps, seen, strict=True))


# Photographs


def test_a_batch_of_photographs_depends_on_seed_and_step_only():
    straight = batches(on_photographs(), [0, 1, 2, 3, 4, 5])
    for asked in ([5], [3, 5, 1], [4, 0, 5, 2]):
        for step, x in batches(on_photographs(), asked).items():
            assert torch.equal(x, straight[step])
    assert len({x.numpy().tobytes() for x in straight.values()}) == 6
    assert not torch.equal(batches(on_photographs(seed=1), [5])[5], straight[5])


def test_training_on_photographs_goes_on_where_it_stopped(tmp_path):
    whole, again = on_photographs(steps=6), on_photographs(steps=6)
    fit(whole, out=tmp_path / "whole", steps=6, seed=0, progress=False)
    fit(again, out=tmp_path / "again", steps=3, seed=0, progress=False)
    resumed = on_photographs(refiner(9), steps=6)
    fit(resumed, out=tmp_path / "again", steps=6, seed=0, resume=True, progress=False)
    weights = resumed.module().state_dict()
    for name, tensor in whole.module().state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_an_untrained_refiner_has_the_error_of_the_start_and_training_lowers_it(tmp_path):
    task = on_photographs(refiner(1), steps=30, batch=24, seed=1)
    unseen = range(400, 416)

    def errors() -> np.ndarray:
        with torch.inference_mode():
            found = [task.losses(step, torch.Generator().manual_seed(0)) for step in unseen]
        return np.mean([[float(x["loss"]), float(x["start"])] for x in found], axis=0)

    before = errors()
    assert before[0] == pytest.approx(before[1], abs=1e-7)
    fit(task, out=tmp_path, steps=30, seed=0, progress=False)
    loss, start = errors()
    assert start == pytest.approx(before[1], abs=1e-7)
    assert loss < 0.996 * start, (loss, start)  # 1,500 steps: 0.94


def test_photographs_in_which_nothing_is_seen_are_refused():
    flat = NaturalImages.of([np.full((160, 160), 90, dtype=np.uint8)])
    task = PhotographTask(refiner(), flat, steps=3, batch=2, learning_rate=1e-3, seed=0)
    with pytest.raises(DataError, match="give photographs that show something"):
        task.losses(0, torch.Generator())


def test_photographs_are_learned_from_beside_the_section():
    section = patches(20, 20)
    section = section.hide(section.measured)
    config = RefinedConfig(components=4, steps=3, batch=4)
    alone, beside, again = (
        fit_refined(section, section.expression(), config, refiner(), images=images, seed=0).refiner.state_dict()
        for images in (None, blobs(), blobs())
    )
    assert all(torch.equal(beside[name], again[name]) for name in beside)
    assert not torch.equal(alone["last.weight"], beside["last.weight"])


def test_a_folder_of_photographs_is_read(tmp_path, tissue):
    with pytest.raises(DataError, match=str(tmp_path)):
        model("s2s-st", {"images": str(tmp_path)}).impute(tissue(rows=8, cols=8))


# The section itself


@pytest.fixture(scope="module")
def section():
    """A scene, its first process, the spots held out, and the columns that are learned from."""
    drawn = patches(24, 24)
    drawn = drawn.hide(drawn.measured)
    scene = RefinedInputs.of(drawn, drawn.expression(), 4, seed=0)
    held = np.random.default_rng(5).random(len(scene.seen)) < 0.3
    return scene, Position.of(scene).choice, held, choose_columns(scene, np.random.default_rng(0))


def flat(scene: RefinedInputs) -> np.ndarray:
    """Place of each measured spot on the grid, which is one tile here."""
    return scene.lattice.row[scene.seen] * scene.lattice.shape[1] + scene.lattice.col[scene.seen]


def test_held_out_spots_are_never_learned_and_dropped_ones_never_shown(section):
    scene, choice, held, columns = section
    drops = drop_spots(scene, choice, held, columns, np.random.default_rng(0))
    assert len(drops) >= 4
    at, taught_ever = flat(scene), np.zeros(len(scene.seen), dtype=bool)
    for one in drops:
        weight, given, known = (x.flatten(-2)[..., at].numpy() for x in (one.weight, one.x[:, 2], one.x[:, 3]))
        taught = weight > 0
        assert taught.any()
        assert not taught[held].any()
        assert (given[:, taught] == 0).all()
        assert (known[:, taught] == 0).all()
        shown = known[0] == 1
        assert shown.any()
        np.testing.assert_allclose(given[:, shown], scene.columns[np.ix_(shown, columns)].T, rtol=1e-6)
        np.testing.assert_allclose(
            one.target.flatten(-2)[:, at].numpy()[:, taught], scene.columns[np.ix_(taught, columns)].T, rtol=1e-6
        )
        np.testing.assert_allclose(weight[taught], 1 / scene.places.noise[taught], rtol=1e-6)
        assert one.weight.count_nonzero() == taught.sum()  # nothing where no spot was measured
        assert one.x[0, 3].count_nonzero() == shown.sum()
        taught_ever |= taught
    assert taught_ever[~held].mean() > 0.8


def test_values_of_dropped_spots_do_not_reach_the_inputs(section):
    scene, choice, held, columns = section
    drops = drop_spots(scene, choice, held, columns, np.random.default_rng(0))
    gone = drops[0].x[0, 3].flatten().numpy()[flat(scene)] == 0
    poisoned = scene.columns.copy()
    poisoned[gone] = 1e6
    told = drop_spots(replace(scene, columns=poisoned), choice, held, columns, np.random.default_rng(0))
    assert torch.equal(told[0].x, drops[0].x)
    assert not torch.equal(told[0].target, drops[0].target)


def test_held_out_spots_are_examined_without_their_own_values(section):
    scene, choice, held, _ = section
    asked = prepare_examinations(scene, choice, held)
    poisoned = scene.columns.copy()
    poisoned[held] = 1e6
    told = prepare_examinations(replace(scene, columns=poisoned), choice, held)
    np.testing.assert_array_equal(np.sort(np.concatenate([one.spots for one in asked])), np.flatnonzero(held))
    for one, other in zip(asked, told, strict=True):
        assert torch.equal(one.x, other.x)
        assert (one.x[:, 2:4].flatten(-2)[..., one.at] == 0).all()
        np.testing.assert_array_equal(one.at, flat(scene)[one.spots])
        # the map and the spots are two ways to the same prediction
        components = np.arange(scene.n_components)
        there = one.x[:, 0].flatten(-2)[:, one.at].T.numpy()
        found = Position(choice).krige(scene, one.left, components, scene.seen[one.spots])
        np.testing.assert_allclose(there, found.mean, atol=1e-4)
        assert not held[one.left].any()


def test_only_dropped_spots_are_scored(section):
    scene, choice, held, columns = section
    drops = drop_spots(scene, choice, held, columns, np.random.default_rng(0))
    elsewhere = [replace(one, target=torch.where(one.weight > 0, one.target, torch.tensor(1e6))) for one in drops]
    losses = []
    for parts in (drops, elsewhere):
        task = SparserTask(refiner(), parts, scene.n_components, steps=4, batch=8, learning_rate=1e-3)
        with torch.inference_mode():
            losses.append([float(task.losses(i, torch.Generator().manual_seed(i))["loss"]) for i in range(4)])
    assert losses[0] == losses[1]


def test_learning_on_the_section_lowers_its_error(section, tmp_path):
    scene, choice, held, columns = section
    drops = drop_spots(scene, choice, held, columns, np.random.default_rng(0))
    told: list[tuple[int, int]] = []
    task = SparserTask(
        refiner(),
        drops,
        scene.n_components,
        steps=30,
        batch=16,
        learning_rate=4e-3,
        progress=lambda *at: told.append(at),
    )

    def error() -> float:
        with torch.inference_mode():
            return float(np.mean([float(task.losses(i, torch.Generator().manual_seed(i))["loss"]) for i in range(16)]))

    before = error()
    fit(task, out=tmp_path, steps=30, seed=0, progress=False)
    assert error() < 0.99 * before
    assert told == [(i, 30) for i in range(1, 31)]


def test_photographs_are_added_to_the_loss(section):
    scene, choice, held, columns = section
    drops = drop_spots(scene, choice, held, columns, np.random.default_rng(0))
    module = refiner()
    options = {"steps": 4, "batch": 8, "learning_rate": 1e-3}
    images = on_photographs(copy.deepcopy(module))
    beside = SparserTask(module, drops, scene.n_components, photographs=images, **options)
    losses = beside.losses(1, torch.Generator().manual_seed(1))
    alone = SparserTask(module, drops, scene.n_components, **options).losses(1, torch.Generator().manual_seed(1))
    assert set(losses) == {"loss", "sparser", "photographs"}
    torch.testing.assert_close(losses["sparser"], alone["sparser"])
    torch.testing.assert_close(losses["loss"], losses["sparser"] + losses["photographs"])
