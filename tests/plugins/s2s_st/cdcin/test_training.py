"""S2S-ST: training on one section, and filling it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stzoo.core import config as configs
from stzoo.core.errors import ConfigError, DataError
from stzoo.core.training.loop import TrainingError
from stzoo.plugins.s2s_st.cdcin.canvas import Canvas
from stzoo.plugins.s2s_st.cdcin.fitting import fill_cdcin, fit_cdcin
from stzoo.plugins.s2s_st.cdcin.network import CDCIN
from stzoo.plugins.s2s_st.cdcin.sampling import ScatteredSampling, StridedSampling
from stzoo.plugins.s2s_st.cdcin.training import CDCINTask, deep_l1
from stzoo.plugins.s2s_st.config import CDCINConfig, CDCINNetworkConfig, CDCINTrainConfig, InferenceConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from torch import nn

TINY = CDCINConfig(
    CDCINNetworkConfig(cascades=2, channels=8, blocks=1, layers=1),
    CDCINTrainConfig(iterations=3, batch=2, window=16, frugal=False, learning_rate=1e-3),
    InferenceConfig(step=8),
)
MASKED = replace(TINY, network=replace(TINY.network, mask_channel=True))


def trained(**changes) -> CDCINConfig:
    return replace(TINY, train=replace(TINY.train, **changes))


def scene(shape=(22, 25), stride=2, phase=(0, 0), genes=1, gaps=0.05, hidden=np.nan):
    """Smooth waves on a lattice with a few holes: maps with hidden places overwritten, occupied, measured, truth."""
    rng = np.random.default_rng(0)
    r, c = np.mgrid[: shape[0], : shape[1]]
    waves = [2 + np.sin((r * np.cos(t) + c * np.sin(t)) / 3) for t in np.linspace(0, 2, genes)]
    truth = np.stack(waves).astype(np.float32)
    occupied = rng.random(shape) >= gaps
    measured = np.zeros(shape, dtype=bool)
    if stride:
        measured[phase[0] :: stride, phase[1] :: stride] = True
    else:
        measured = rng.random(shape) < 0.4
    measured &= occupied
    maps = np.where(measured, truth, np.float32(hidden))
    return maps, occupied, measured, truth


def photographs():
    rng = np.random.default_rng(1)
    return NaturalImages.of([rng.integers(0, 255, (128, 140), dtype=np.uint8) for _ in range(2)])


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("stride", "config"), [(2, TINY), (0, MASKED)], ids=["regular", "irregular"])
def test_hidden_values_are_never_read(stride, config):
    """Poisoned with NaN, or with huge values: the same weights and the same fill, to the bit."""
    found = []
    for poison in (np.nan, 1e6):
        maps, occupied, measured, _ = scene(stride=stride, hidden=poison)
        network = fit_cdcin(maps, occupied, measured, config, images=photographs())
        found.append((network, fill_cdcin(network, maps, occupied, measured, config)))
    assert_same(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert np.isfinite(found[0][1][:, occupied]).all()
    assert found[0][1][:, occupied].max() < 100


def test_a_seed_decides_everything():
    maps, occupied, measured, _ = scene(genes=2)
    networks = []
    for number, seed in enumerate((4, 4, 5)):
        torch.manual_seed(number)
        networks.append(fit_cdcin(maps, occupied, measured, TINY, images=photographs(), seed=seed))
    assert_same(networks[0], networks[1])
    with pytest.raises(AssertionError):
        assert_same(networks[0], networks[2])


@pytest.mark.parametrize("phase", [(1, 1), (0, 1)])
def test_a_phase_is_a_shift(phase):
    """Training is that of the section without its first row and column; filling that of one with a row before."""
    maps, occupied, measured, _ = scene(phase=phase)
    cropped = [x[..., phase[0] :, phase[1] :] for x in (maps, occupied, measured)]
    network = fit_cdcin(maps, occupied, measured, TINY)
    assert_same(network, fit_cdcin(*cropped, TINY))
    a, b = phase
    before = [(a, 0), (b, 0)]
    padded = [
        np.pad(maps, [(0, 0), *before], constant_values=np.nan),
        np.pad(occupied, before),
        np.pad(measured, before),
    ]
    fine = replace(TINY, inference=InferenceConfig())
    filled = fill_cdcin(network, maps, occupied, measured, fine)
    np.testing.assert_array_equal(fill_cdcin(network, *padded, fine)[:, a:, b:], filled)


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("shape", [(22, 25), (11, 37), (6, 8)])
def test_measured_values_come_back_bit_equal_and_every_spot_is_filled(stride, shape):
    maps, occupied, measured, _ = scene(shape, stride, (1, stride - 1), genes=2, gaps=0.0)
    network = fit_cdcin(maps, occupied, measured, TINY, images=photographs())
    filled = fill_cdcin(network, maps, occupied, measured, TINY)
    assert filled.dtype == np.float32
    assert filled.shape == maps.shape
    np.testing.assert_array_equal(filled[:, measured], maps[:, measured])
    np.testing.assert_array_equal(np.isnan(filled).any(axis=0), ~occupied)
    assert (filled[:, occupied] >= 0).all()
    network.config = replace(network.config, final_dc=False)
    free = fill_cdcin(network, maps, occupied, measured, TINY)
    assert not np.array_equal(free[:, measured], maps[:, measured])
    np.testing.assert_array_equal(free[:, occupied & ~measured], filled[:, occupied & ~measured])


def test_all_four_passes_have_data_consistency():
    """D2: each pass is given a mask with as many places as its input has values, at the top left of blocks."""
    maps, occupied, measured, _ = scene(gaps=0.1)
    canvas = Canvas.of(maps, occupied, measured, (2, (0, 0)), 16)
    network, seen = CDCIN(TINY.network), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given))
    task = CDCINTask(network, canvas, StridedSampling(2), TINY.train, photographs())
    losses = task.losses(0, torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "s2s", "s2d", "g1", "g2"}
    s2s, s2d, g1, g2 = seen
    assert [x0.shape[-1] for x0, _ in seen] == [8, 16, 8, 16]
    for x0, mask in seen:
        assert not mask[..., 1::2, :].any()
        assert not mask[..., :, 1::2].any()
        assert torch.equal(x0[..., ::2, ::2], x0[..., 1::2, 1::2])
    assert s2s[1].sum() == (s2s[0][..., ::2, ::2] != 0).sum() > 0
    assert s2d[1].sum() == (s2d[0][..., ::2, ::2] != 0).sum() > 0
    assert g1[1].sum() == 2 * 4 * 4
    assert g2[1].sum() == 2 * 8 * 8
    assert s2d[0].max() < 0.31  # divided by κ


def test_the_losses_are_those_of_the_formula():
    """Recomputed by hand from what the network was given and gave."""
    maps, occupied, measured, _ = scene(gaps=0.1)
    canvas = Canvas.of(maps, occupied, measured, (2, (0, 0)), 16)
    network, passes = CDCIN(TINY.network), []
    network.register_forward_hook(lambda _, given, out: passes.append((*given, out)))
    config = replace(TINY.train, gene_weight=5.0, gene_scale=4.0, augment=False)
    losses = CDCINTask(network, canvas, StridedSampling(2), config, photographs()).losses(
        0, torch.Generator().manual_seed(0)
    )
    x_m, known = (t[..., ::2, ::2] for t in passes[1][:2])
    torch.testing.assert_close(losses["s2s"], 4 * deep_l1(passes[0][2], x_m, known))
    torch.testing.assert_close(losses["s2d"], 4 * deep_l1([r[..., ::2, ::2] for r in passes[1][2]], x_m, known))
    g_m = passes[3][0][..., ::2, ::2]
    torch.testing.assert_close(losses["g1"], deep_l1(passes[2][2], g_m, torch.ones_like(g_m)))
    genes, images = losses["s2s"] + losses["s2d"], losses["g1"] + losses["g2"]
    torch.testing.assert_close(losses["loss"], 5 / 4 * genes + images)


def test_each_loss_can_be_switched_off():
    maps, occupied, measured, _ = scene()
    canvas = Canvas.of(maps, occupied, measured, (2, (0, 0)), 16)

    def names(images, **switches):
        task = CDCINTask(CDCIN(TINY.network), canvas, StridedSampling(2), replace(TINY.train, **switches), images)
        return set(task.losses(0, torch.Generator().manual_seed(0)))

    assert names(None) == {"loss", "s2s", "s2d"}
    assert names(photographs(), s2d=False, g1=False) == {"loss", "s2s", "g2"}
    assert names(photographs(), s2s=False, s2d=False, gradient=0.1) == {"loss", "g1", "g2", "gradient"}
    assert names(None, gradient=0.1, drop_rate=0.3) == {"loss", "s2s", "s2d", "gradient"}
    with pytest.raises(ConfigError, match="every loss is off"):
        names(None, s2s=False, s2d=False)


def test_dropped_inputs_leave_the_mask_too():
    maps, occupied, measured, _ = scene(gaps=0.0)
    canvas = Canvas.of(maps, occupied, measured, (2, (0, 0)), 16)
    network, seen = CDCIN(TINY.network), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given))
    config = replace(TINY.train, drop_rate=0.5)
    CDCINTask(network, canvas, StridedSampling(2), config).losses(0, torch.Generator().manual_seed(0))
    for x0, mask in seen:
        assert mask.sum() == (x0[..., ::2, ::2] != 0).sum() < x0[..., ::2, ::2].numel()


def test_irregular_masks_need_the_mask_channel_and_guess_dropped_places():
    maps, occupied, measured, _ = scene(stride=0)
    with pytest.raises(ConfigError, match="mask_channel=true"):
        fit_cdcin(maps, occupied, measured, TINY)
    canvas = Canvas.of(maps, occupied, measured, (1, (0, 0)), 16)
    network, seen = CDCIN(MASKED.network), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given))
    task = CDCINTask(network, canvas, ScatteredSampling(0.4), MASKED.train, photographs())
    losses = task.losses(0, torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "s2s", "s2d", "g1", "g2"}
    (_, kept), (x_m, known), (_, shown_less), (_, shown) = seen
    assert not (kept & ~known).any()
    assert kept.sum() == pytest.approx(0.4 * known.sum(), abs=2)
    assert not (shown_less & ~shown).any()
    assert torch.equal(shown, known)
    assert torch.equal(x_m != 0, known)


def test_a_network_learns_to_fill_better_than_its_input():
    """Waves of 3 places a radian: what is learned from 4 to 2 places apart holds from 2 to 1 (scale transfer)."""
    maps, occupied, measured, truth = scene((32, 32), gaps=0.0)
    config = trained(iterations=150, s2d=False, learning_rate=3e-3)
    config = replace(config, network=replace(config.network, cascades=1))
    network = fit_cdcin(maps, occupied, measured, config)
    filled = fill_cdcin(network, maps, occupied, measured, config)
    hidden = ~measured
    nearest = truth[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    error, before = (float(np.abs(x - truth)[:, hidden].mean()) for x in (filled, nearest))
    assert error < 0.8 * before, (error, before)


def test_a_loss_that_is_not_finite_stops_training():
    maps, occupied, measured, _ = scene()
    with pytest.raises(TrainingError, match=r"s2s = (nan|inf)"):
        fit_cdcin(maps, occupied, measured, trained(learning_rate=1e30))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"iterations": 0}, {"gene_scale": 0.0}, {"drop_rate": 1.0}])
def test_impossible_options_are_refused(wrong):
    maps, occupied, measured, _ = scene()
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        fit_cdcin(maps, occupied, measured, trained(**wrong))


def test_images_too_small_for_the_windows_are_refused():
    maps, occupied, measured, _ = scene((80, 80))
    with pytest.raises(DataError, match="need 144"):
        fit_cdcin(maps, occupied, measured, trained(window=72), images=photographs())


def test_progress_is_told_of_steps_and_windows():
    maps, occupied, measured, _ = scene()
    steps, windows = [], []
    network = fit_cdcin(maps, occupied, measured, TINY, progress=lambda *at: steps.append(at))
    fill_cdcin(network, maps, occupied, measured, TINY, progress=lambda *at: windows.append(at))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert windows[-1][0] == windows[-1][1] > 0


def test_options_survive_their_file():
    values = {"network": {"noise_weight": 2.0}, "train": {"window": 32}}
    config = configs.build(CDCINConfig, values)
    assert config.network.noise_weight == 2.0
    assert configs.build(CDCINConfig, configs.dump(config)) == config
