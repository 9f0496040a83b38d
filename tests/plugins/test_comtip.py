"""CoMTIP at its interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stzoo.core.errors import GeneError, WeightsError
from stzoo.core.section import Section
from stzoo.core.synthetic import synthetic_section
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem, TextConfig, VisionConfig
from stzoo.plugins.comtip.inputs import turned
from stzoo.plugins.comtip.model import CoMTIP
from stzoo.plugins.comtip.network import ImageTower, TextTower
from stzoo.plugins.comtip.objective import info_nce, masked_feature_loss, value_ranking
from stzoo.plugins.comtip.symbols import encode, load_tokenizer, train_tokenizer
from stzoo.plugins.comtip.texture import N_STATISTICS, statistics

TINY: dict[str, Any] = {
    "embedding_dim": 16,
    "vision": {"tile_px": 64, "width": 24, "depth": 1, "heads": 2},
    "text": {"width": 16, "depth": 1, "heads": 2, "pieces": 60},
    "train": {"steps": 4, "batch": 12, "genes": 8, "ranked_genes": 8, "views": 1, "warmup": 1},
}


@pytest.fixture(scope="module")
def section() -> Section:
    return synthetic_section(side_um=1200, seed=1)


@pytest.fixture(scope="module")
def trained(section: Section, tmp_path_factory: pytest.TempPathFactory) -> CoMTIP:
    model = CoMTIP(TINY)
    model.train([section], out=tmp_path_factory.mktemp("run"), progress=False)
    return model


def test_info_nce_is_the_mean_of_two_cross_entropies() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 7, 5))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    logits = 9.0 * unit[0] @ unit[1].T
    expected = 0.5 * sum(np.mean(np.log(np.exp(m).sum(axis=1)) - np.diag(m)) for m in (logits, logits.T))
    loss = info_nce(torch.tensor(a), torch.tensor(b), torch.tensor(9.0, dtype=torch.float64))
    assert float(loss) == pytest.approx(float(expected), rel=1e-9)


def test_value_ranking_is_least_when_the_true_value_scores_highest() -> None:
    grid = torch.linspace(0, 8, 16)
    values = torch.tensor([[2.1, 6.0]])
    right = -((values[..., None] - grid) ** 2)
    wrong = -((values[..., None] - grid.flip(0)) ** 2)
    assert float(value_ranking(right, values, grid)) < float(value_ranking(wrong, values, grid))


def test_masked_features_teach_the_visible_branch_only() -> None:
    tower = ImageTower(VisionConfig(tile_px=64, width=24, depth=1, heads=2), 8)
    inputs = torch.randn(3, 4, N_STATISTICS)
    teacher = tower(inputs)[1].detach().requires_grad_(True)
    masked_feature_loss(tower, inputs, teacher, 0.5, torch.Generator().manual_seed(0)).backward()
    assert teacher.grad is None
    assert tower.generator.query.grad is not None


def test_text_does_not_depend_on_the_order_of_genes_and_leaves_missing_ones_out() -> None:
    torch.manual_seed(0)
    tower = TextTower(TextConfig(width=16, depth=1, heads=2), 6, 30, 8).eval()
    genes, values = torch.randn(6, 16), torch.rand(3, 6) * 4
    order = torch.randperm(6)
    torch.testing.assert_close(tower(genes, values), tower(genes[order], values[:, order]), atol=1e-5, rtol=1e-5)
    missing = torch.zeros(3, 6, dtype=torch.bool)
    missing[:, 4:] = True
    torch.testing.assert_close(tower(genes, values, missing), tower(genes[:4], values[:, :4]), atol=1e-5, rtol=1e-5)


def test_statistics_of_a_patch_are_plain_moments() -> None:
    rng = np.random.default_rng(0)
    tile = rng.integers(40, 255, (1, 64, 64, 3), dtype=np.uint8)
    found = statistics(torch.from_numpy(tile), 32)[0].numpy()
    density = -np.log(tile[0].astype(np.float64) / 255).mean(axis=-1)
    corner = density[:32, 32:]  # the second patch of the first row
    assert found.shape == (4, N_STATISTICS)
    assert found[1, 3] == pytest.approx(corner.mean(), rel=1e-4)
    assert found[1, 7] == pytest.approx(corner.std(), rel=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_statistics_turn_with_the_tile(turns: int) -> None:
    rng = np.random.default_rng(1)
    tile = rng.integers(40, 255, (1, 64, 64, 3), dtype=np.uint8)
    rotated = torch.from_numpy(np.rot90(tile, turns, (1, 2)).copy())
    expected = turned(statistics(torch.from_numpy(tile), 32), turns, flip=False)
    picked = [*range(8), *range(18, N_STATISTICS)]  # quantiles look at every second pixel, which a turn moves
    torch.testing.assert_close(statistics(rotated, 32)[..., picked], expected[..., picked], atol=1e-4, rtol=1e-3)


def test_tokenizer_round_trip_and_odd_symbols() -> None:
    tokenizer = train_tokenizer(["KRT5", "KRT8", "HLA-DRA", "COL1A1"], 60)
    again = load_tokenizer(tokenizer.to_str().encode())
    odd = ["KRT18", "krt18", "βGENE", "H2-Aa", "MT-CO1.2"]
    pieces = encode(again, odd)
    assert torch.equal(pieces, encode(tokenizer, odd))
    assert torch.equal(pieces[0], pieces[1])
    assert (pieces[:, 0] != 0).all()


def test_without_weights_nothing_is_predicted(section: Section) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        CoMTIP().embed(section)


def test_embedding_does_not_depend_on_the_batch_and_never_reads_counts(trained: CoMTIP, section: Section) -> None:
    whole = trained.embed(section, batch_size=64)
    assert whole.shape == (section.n_spots, trained.embedding_dim)
    blind = section.hide(np.zeros(section.n_spots, dtype=bool))
    np.testing.assert_allclose(trained.embed(blind, batch_size=5), whole, atol=2e-4)


def test_save_and_load_predict_the_same_bits(trained: CoMTIP, section: Section, tmp_path: Path) -> None:
    again = CoMTIP.load(trained.save(tmp_path / "weights"))
    for head in ("ridge", "zero-shot"):
        expected = trained.predict(section, ["ERBB2", "CD74"], head=head).values
        assert np.array_equal(again.predict(section, ["ERBB2", "CD74"], head=head).values, expected)


def test_zero_shot_takes_genes_never_seen(trained: CoMTIP, section: Section) -> None:
    prediction = trained.predict(section, ["KRT17", "ERBB2"], head="zero-shot")
    assert prediction.genes == ("KRT17", "ERBB2")
    assert np.isfinite(prediction.values).all()
    assert prediction.uncertainty is not None
    assert (prediction.uncertainty >= 0).all()
    swapped = trained.predict(section, ["ERBB2", "KRT17"], head="zero-shot").values[:, ::-1]
    np.testing.assert_allclose(swapped, prediction.values, atol=1e-5)
    with pytest.raises(GeneError):
        trained.predict(section, [" "], head="zero-shot")


def test_resume_ends_with_the_same_bits(section: Section, tmp_path: Path) -> None:
    def run(folder: str, steps: int, **options: Any) -> CoMTIP:
        config = CoMTIP(TINY).config
        config.train.steps = 4
        model = CoMTIP(config)
        model.train([section], out=tmp_path / folder, progress=False, **options)
        return model

    once = run("a", 4)
    again = run("a", 4, resume=True)
    for name, tensor in once.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_hidden_spots_are_never_read_in_training(section: Section, tmp_path: Path) -> None:
    measured = np.arange(section.n_spots) % 2 == 0
    poisoned = section.take(np.arange(section.n_spots))
    x = poisoned.adata.X.toarray()
    x[~measured] = 1e6
    poisoned.adata.X = x
    states = []
    for number, one in enumerate((section, poisoned)):
        model = CoMTIP(TINY)
        model.train([one.hide(measured)], out=tmp_path / str(number), progress=False)
        states.append(model.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_restore_is_strict(trained: CoMTIP) -> None:
    state, description, assets = trained.state(), trained.description(), trained.assets()
    missing = {k: v for k, v in state.items() if k != "network.logit_scale"}
    extra = {**state, "network.more": torch.zeros(1)}
    shaped = {**state, "network.text.knots": torch.zeros(3, 3)}
    for broken in (missing, extra, shaped):
        with pytest.raises(WeightsError):
            CoMTIP(TINY).restore(broken, description, assets)
    with pytest.raises(WeightsError, match="vocabulary"):
        CoMTIP(TINY).restore(state, {}, assets)


def test_the_paper_stem_runs_on_pixels(section: Section, tmp_path: Path) -> None:
    model = CoMTIP({**TINY, "vision": {**TINY["vision"], "stem": "linear"}})
    model.train([section], out=tmp_path, progress=False)
    assert model.config.vision.stem is Stem.linear
    assert model.embed(section).shape == (section.n_spots, 16 * 3)


def test_defaults_build() -> None:
    assert CoMTIP().config == CoMTIPConfig()
