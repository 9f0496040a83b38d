"""S2S-ST as an imputer: both variants keep the contract; the refined one is calibrated, tiled and knows hexagons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.errors import ConfigError, DataError, WeightsError
from stzoo.core.measured import measured_mask
from stzoo.core.metrics import per_gene_pcc, reliability
from stzoo.core.registry import model
from stzoo.core.section import Section, Stack
from stzoo.plugins.s2s_st import tiles as tiling
from stzoo.plugins.s2s_st.calibration import Calibration
from stzoo.plugins.s2s_st.config import RefinerConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.model import S2SST
from stzoo.plugins.s2s_st.photographs import Masked, PhotographTask
from stzoo.plugins.s2s_st.refiner import Refiner
from stzoo.plugins.s2s_st.scene import Scene
from stzoo.plugins.s2s_st.sparser import dropped

SIDE = 22
PLAIN = {"start": "none", "refined": {"steps": 0}}
TAUGHT = {"refined": {"steps": 3, "batch": 4}}
NETWORK = {"channels": 8, "blocks": 1, "layers": 1, "cascades": 2}
PAPER = {"variant": "cdcin", "cdcin": {"network": NETWORK, "train": {"iterations": 2, "batch": 2, "window": 16}}}
SCATTERED = {**PAPER, "cdcin": {"network": {**NETWORK, "mask_channel": True}, "train": PAPER["cdcin"]["train"]}}  # type: ignore[index]
VARIANTS = [PLAIN, TAUGHT, PAPER]


def tissue(side: int = SIDE, genes: int = 6, seed: int = 0, hexagonal: bool = False) -> Section:
    """Two regions with an edge, genes that follow them, and counts."""
    rng = np.random.default_rng(seed)
    row, col = (axis.ravel() for axis in np.mgrid[:side, :side])
    if hexagonal:
        col = 2 * col + row % 2
    inside = (np.hypot(row - side / 2, col / (1 + hexagonal) - side / 2) < side / 3).astype(float)
    wave = 0.5 + 0.5 * np.sin(row / 4.0)
    load = rng.uniform(0.2, 1.0, (2, genes))
    rate = 1 + 8 * (inside[:, None] * load[0] + wave[:, None] * load[1]) * rng.lognormal(0, 0.3, (len(row), 1))
    obs = pd.DataFrame({"array_row": row, "array_col": col}, index=[f"{r}x{c}" for r, c in zip(row, col, strict=True)])
    x = rng.poisson(rate).astype(np.float32)
    adata = AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(genes)]))
    y = row * (np.sqrt(0.75) if hexagonal else 1.0)
    adata.obsm["spatial_um"] = np.column_stack([col * (0.5 if hexagonal else 1.0), y]) * 50.0
    return Section(adata, "made")


def filled(section: Section, rule: str, config: dict[str, Any], seed: int = 0) -> Any:
    done = model("s2s-st", config, seed=seed).impute(section.hide(measured_mask(section, rule)))
    return np.asarray(done.adata.layers["imputed"]), np.asarray(done.adata.layers["confidence"])


@pytest.mark.parametrize("config", VARIANTS, ids=["refined", "taught", "cdcin"])
@pytest.mark.parametrize("rule", ["grid:2", "grid:3+1,2", "grid:4"])
def test_measured_spots_come_back_and_the_rest_is_finite(config: dict[str, Any], rule: str) -> None:
    section = tissue(26)
    measured = measured_mask(section, rule)
    hidden = section.hide(measured)
    values, confidence = filled(section, rule, config)
    assert np.array_equal(values[measured], hidden.expression()[measured])
    assert np.isfinite(values).all()
    assert (confidence[measured] == 1).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert (values[~measured].std(axis=0) > 0).all()


@pytest.mark.parametrize("config", VARIANTS, ids=["refined", "taught", "cdcin"])
def test_hidden_counts_are_never_read(config: dict[str, Any]) -> None:
    section = tissue()
    measured = measured_mask(section, "grid:2")
    poisoned = section.adata.copy()
    poisoned.X[~measured] = 1e6
    poisoned.obs["hint"], poisoned.layers["hint"] = section.depth, section.counts()
    for a, b in zip(
        filled(section, "grid:2", config), filled(replace(section, adata=poisoned), "grid:2", config), strict=True
    ):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("config", VARIANTS, ids=["refined", "taught", "cdcin"])
def test_a_seed_decides_everything(config: dict[str, Any]) -> None:
    first, again = (filled(tissue(), "grid:2", config, seed=3) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_neither_order_of_spots_nor_of_genes_matters() -> None:
    section, rng = tissue(), np.random.default_rng(1)
    values, _ = filled(section, "grid:2", PLAIN)
    spots, genes = rng.permutation(section.n_spots), rng.permutation(section.n_genes)
    turned = replace(section, adata=section.adata[spots][:, genes].copy())
    assert np.allclose(filled(turned, "grid:2", PLAIN)[0], values[spots][:, genes], atol=1e-4)


@pytest.mark.parametrize("config", [PLAIN, TAUGHT, SCATTERED], ids=["refined", "taught", "cdcin"])
def test_scattered_spots(config: dict[str, Any]) -> None:
    values, _ = filled(tissue(), "random:0.3+2", config)
    assert np.isfinite(values).all()


def test_the_papers_network_asks_for_a_mask_channel() -> None:
    with pytest.raises(ConfigError, match="no regular sub-lattice"):
        filled(tissue(), "random:0.3+2", PAPER)


def test_a_network_for_each_gene() -> None:
    section = tissue(18, genes=2)
    values, confidence = filled(section, "grid:2", {**PAPER, "mode": "per_gene"})
    alone, _ = filled(section.take_genes(["G1"]), "grid:2", {**PAPER, "mode": "per_gene"})
    assert np.array_equal(values[:, 1:], alone)  # what a gene gets does not depend on the others
    assert np.isfinite(confidence).all()


def test_it_beats_the_mean_and_the_nearest_spot() -> None:
    section = tissue(30, genes=8)
    hidden = ~measured_mask(section, "grid:2")
    truth = section.expression()[hidden]
    scores = {
        name: np.median(
            per_gene_pcc(truth, np.asarray(imputer.impute(section.hide(~hidden)).adata.layers["imputed"])[hidden])
        )
        for name, imputer in (("nearest", model("nearest")), ("s2s-st", model("s2s-st", PLAIN)))
    }
    assert scores["s2s-st"] > scores["nearest"] + 0.05


def test_confidence_is_what_comes_true() -> None:
    section = tissue(40, genes=20)
    measured = measured_mask(section, "grid:2")
    done = model("s2s-st", PLAIN).impute(section.hide(measured))
    truth = section.expression(target=float(np.median(section.depth[measured])))
    layers = done.adata.layers
    variance = truth[measured].var(axis=0)
    curve = reliability(
        truth[~measured], layers["imputed"][~measured], layers["confidence"][~measured], variance, bins=4
    )
    assert abs(np.average(curve[:, 0] - curve[:, 1], weights=curve[:, 2])) < 0.1
    assert curve[-1, 1] > curve[0, 1]  # what is trusted more is better


def test_a_hexagonal_array_has_six_neighbours_at_one_pitch() -> None:
    section = tissue(20, hexagonal=True)
    measured = measured_mask(section, "random:0.4+1")
    hidden = section.hide(measured)
    scene = Scene.of(hidden, hidden.expression(), 3, seed=0)
    at = scene.spots(np.arange(section.n_spots)).um
    inner = np.flatnonzero((scene.lattice.row == 9) & (scene.lattice.col == 9))[0]
    distance = np.sort(np.linalg.norm(at - at[inner], axis=1))
    assert np.allclose(distance[1:7], 1.0)
    assert distance[7] > 1.5
    assert np.isfinite(filled(section, "random:0.4+1", PLAIN)[0]).all()


def test_extreme_sections() -> None:
    section = tissue()
    one = np.zeros(section.n_spots, dtype=bool)
    one[30] = True
    done = model("s2s-st", PLAIN).impute(section.hide(one))
    assert np.isfinite(done.adata.layers["imputed"]).all()
    flat = section.adata.copy()
    flat.X[:, 0], flat.X[2] = 0, 0  # a gene that nobody has, and a spot without counts
    values, confidence = filled(replace(section, adata=flat), "grid:2", PLAIN)
    hidden = ~measured_mask(section, "grid:2")
    assert (values[:, 0] == 0).all()
    assert (confidence[hidden, 0] == 0).all()
    with pytest.raises(DataError, match="no measured spot"):
        model("s2s-st", PLAIN).impute(section.hide(np.zeros(section.n_spots, dtype=bool)))
    assert np.array_equal(model("s2s-st", PLAIN).impute(section).adata.layers["imputed"], section.expression())


def test_cells_on_no_lattice_are_refused() -> None:
    section = tissue()
    adata = section.adata.copy()
    del adata.obs["array_row"], adata.obs["array_col"]
    adata.obsm["spatial_um"] = np.random.default_rng(0).uniform(0, 1000, (section.n_spots, 2))
    with pytest.raises(DataError, match="--bin-um"):
        filled(replace(section, adata=adata), "random:0.5", PLAIN)


def test_every_section_of_a_stack_is_filled_by_itself() -> None:
    first, second = tissue(seed=1), tissue(seed=2)
    hidden = [section.hide(measured_mask(section, "grid:2")) for section in (first, second)]
    both = model("s2s-st", PLAIN).impute(Stack(tuple(hidden)), target=500.0)
    alone = model("s2s-st", PLAIN).impute(hidden[1], target=500.0)
    assert np.array_equal(both.sections[1].adata.layers["imputed"], alone.adata.layers["imputed"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.05, 1.0))
def test_tiles_cover_the_grid_once(h: int, w: int, share: float) -> None:
    covered = np.zeros((h, w), dtype=int)
    for tile in tiling.tiles((h, w), 10_000, share):
        covered[slice(*tile.rows), slice(*tile.cols)] += 1
        assert tile.outer_rows[0] <= tile.rows[0] < tile.rows[1] <= tile.outer_rows[1] <= h
        assert tile.outer_cols[0] <= tile.cols[0] < tile.cols[1] <= tile.outer_cols[1] <= w
        assert np.array_equal(tile.number(*tile.cells()), np.arange(np.prod(tile.shape)))
    assert (covered == 1).all()


def test_many_tiles_say_what_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    section = tissue(44, genes=4)
    hidden = ~measured_mask(section, "grid:2")
    whole, _ = filled(section, "grid:2", PLAIN)
    monkeypatch.setattr(tiling, "WHOLE", 100)
    monkeypatch.setattr(tiling, "CORE", 12.0)
    pieces, _ = filled(section, "grid:2", PLAIN)
    assert not np.array_equal(whole, pieces)
    assert (per_gene_pcc(whole[hidden], pieces[hidden]) > 0.9).all()


def test_calibration_finds_a_known_curve() -> None:
    rng = np.random.default_rng(0)
    trust = rng.uniform(0, 1, (400, 50))
    explained = 0.5 * trust + rng.normal(0, 0.3, trust.shape)
    curve = Calibration.of([trust], [explained])
    asked = np.linspace(0.1, 0.9, 9)
    assert np.allclose(curve.apply(asked), 0.5 * asked, atol=0.03)
    assert (np.diff(curve.apply(np.linspace(0, 1, 50))) >= 0).all()
    assert np.array_equal(Calibration.none().apply(asked), asked.astype(np.float32))


def test_an_untrained_refiner_changes_nothing_and_mirrors_mean_nothing() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 5, 9, 11)
    refiner = Refiner(RefinerConfig(channels=4, dilations=[1, 2]))
    assert (refiner(x) == 0).all()
    torch.nn.init.normal_(refiner.last.weight)
    mirrored = torch.flip(refiner.posed_mean(torch.flip(x, [3])), [2])
    assert torch.allclose(mirrored, refiner.posed_mean(x), atol=1e-6)
    assert not torch.allclose(mirrored, refiner(x), atol=1e-3)


def photographs() -> NaturalImages:
    rng, images = np.random.default_rng(0), []
    y, x = np.mgrid[:200, :200]
    for _ in range(4):  # discs with edges, made here
        image = np.full((200, 200), 40.0)
        for _ in range(12):
            a, b, r = rng.integers(0, 200), rng.integers(0, 200), rng.integers(10, 50)
            image[(y - a) ** 2 + (x - b) ** 2 < r**2] = rng.integers(0, 255)
        images.append(image.astype(np.uint8))
    return NaturalImages.of(images)


def test_photographs_teach_and_a_step_is_the_same_whenever_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stzoo.plugins.s2s_st.photographs.MASKS", 2)
    torch.manual_seed(0)

    def task() -> PhotographTask:
        refiner = Refiner(RefinerConfig(channels=8, dilations=[1, 2, 1]))
        return PhotographTask(refiner, photographs(), steps=24, batch=8, learning_rate=1e-2, seed=5)

    long, resumed = task(), task()
    generator, gains = torch.Generator(), []
    optimizer = long.optimizer()
    for _ in range(60):  # one batch over and over: it can be learned
        losses = long.losses(3, generator)
        gains.append((losses["start"] - losses["loss"]).item() / losses["start"].item())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert gains[0] == 0
    assert gains[-1] > 0.01
    assert resumed.losses(9, generator)["start"] == long.losses(9, generator)["start"]


def test_masks_hide_what_they_say() -> None:
    masked = Masked.drawn(np.random.default_rng(3))
    assert not (masked.known & ~masked.occupied).any()
    assert len(masked.seen) == masked.known.sum()


def test_held_out_spots_are_never_learned_and_dropped_ones_never_shown() -> None:
    from stzoo.plugins.s2s_st.context import first_choice

    section = tissue(30)
    hidden = section.hide(measured_mask(section, "grid:2"))
    scene = Scene.of(hidden, hidden.expression(), 3, seed=0)
    rng = np.random.default_rng(0)
    held = rng.random(len(scene.seen)) < 0.2
    found = dropped(scene, first_choice(scene), held, np.arange(5), rng)
    assert found
    spots = scene.seen[held]
    for one in found:
        assert (one.weight[scene.lattice.row[spots], scene.lattice.col[spots]] == 0).all()
        taught = one.weight > 0
        assert (one.x[:, 2:4, taught] == 0).all()
        assert taught.sum() > 10


def test_weights_round_trip(tmp_path: Any) -> None:
    imputer = model("s2s-st", TAUGHT)
    imputer.save(tmp_path / "w")
    loaded = S2SST.load(tmp_path / "w")
    assert loaded.trained_on == imputer.trained_on
    assert loaded.trained_on["photographs"] == 41
    section = tissue()
    given = section.hide(measured_mask(section, "grid:2"))
    assert np.array_equal(loaded.impute(given).adata.layers["imputed"], imputer.impute(given).adata.layers["imputed"])
    state = imputer.state()
    state["last.bias"] = torch.zeros(2)
    with pytest.raises(WeightsError, match=r"last\.bias"):
        loaded.restore(state, {}, {})


def test_the_packaged_weights_change_the_result() -> None:
    with_them, _ = filled(tissue(), "grid:2", {"refined": {"steps": 0}})
    without, _ = filled(tissue(), "grid:2", PLAIN)
    assert not np.array_equal(with_them, without)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"mode": "per_gene"}, "variant=cdcin"),
        ({"refined": {"steps": -1}}, r"refined\.steps"),
        ({"refined": {"step": 3}}, "steps"),
        ({"variant": "paper"}, "variant"),
    ],
)
def test_options_without_meaning_are_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        model("s2s-st", config)
