"""S2S-ST: levels of resolution, CDCIN and its losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stzoo.core.errors import ConfigError
from stzoo.plugins.s2s_st.cdcin.attention_block import WindowAttention
from stzoo.plugins.s2s_st.cdcin.network import CDCIN
from stzoo.plugins.s2s_st.cdcin.sampling import decimate, fill_nearest, place_mask
from stzoo.plugins.s2s_st.cdcin.training import deep_l1, gradient_l1, masked_l1, total_loss
from stzoo.plugins.s2s_st.config import CDCINNetworkConfig, CDCINTrainConfig
from stzoo.plugins.s2s_st.images import turn_and_mirror

TINY = CDCINNetworkConfig(cascades=3, channels=8, blocks=1, layers=1)


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def inputs():
    mask = place_mask(drawn(2, 1, 8, 8, seed=1) > 0.2, 2)
    return fill_nearest(drawn(2, 1, 8, 8), 2), mask


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_decimation_undoes_the_nearest_fill(stride):
    x = drawn(2, 1, 5, 7)
    assert torch.equal(decimate(fill_nearest(x, stride), stride), x)
    known = x > 0.5
    mask = place_mask(known, stride)
    assert mask.sum() == known.sum()
    assert torch.equal(decimate(mask, stride), known)


def test_mirroring_before_decimation_shows_other_places():
    """D1: the order matters, so only what was decimated may be mirrored."""
    x = torch.arange(64.0).view(8, 8)
    kept = set(decimate(x, 2).flatten().tolist())
    for pose in range(1, 8):
        transposed = pose == 5  # the only one that leaves [::2, ::2] where it is
        assert set(decimate(turn_and_mirror(x, pose), 2).flatten().tolist()).isdisjoint(kept) != transposed
        assert set(turn_and_mirror(decimate(x, 2), pose).flatten().tolist()) == kept
    assert len({tuple(turn_and_mirror(x, pose).flatten().tolist()) for pose in range(8)}) == 8


def test_sizes_are_those_of_the_specification():
    network = CDCIN(CDCINNetworkConfig())
    assert size(network) == 3_310_659
    block = network.cascade[0]
    assert size(block) == 1_103_553
    assert size(block.blocks[0]) == 134_528
    assert size(block.blocks[0].attention[0]) == 18_544
    assert size(CDCIN(CDCINNetworkConfig(mask_channel=True))) - size(network) == 3 * 32 * 9
    assert not any("offset" in name for name in network.state_dict())


@pytest.mark.parametrize("mask_channel", [False, True])
def test_every_block_but_the_first_reads_data_that_are_consistent(inputs, mask_channel):
    network = CDCIN(replace(TINY, mask_channel=mask_channel))
    read = []
    for block in network.cascade:
        block.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    x0, mask = inputs
    estimates = network(x0, mask)
    assert len(estimates) == len(read) == 3
    for number, z in enumerate(read):
        assert torch.equal(z[:, :1][mask], x0[mask])
        if number:
            assert torch.equal(z[:, :1][~mask], estimates[number - 1][~mask])
    assert not torch.equal(estimates[-1][mask], x0[mask])
    assert torch.equal(network.predict(x0, mask)[mask], x0[mask])
    assert torch.equal(network.predict(x0, mask)[~mask], estimates[-1][~mask])


def test_switches_of_data_consistency(inputs):
    x0, mask = inputs
    free = CDCIN(replace(TINY, consistency=False))
    read = []
    free.cascade[1].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    estimates = free(x0, mask)
    assert torch.equal(read[0], estimates[0])
    assert torch.equal(free.predict(x0, mask), estimates[-1])
    late = CDCIN(replace(TINY, final_dc=False))
    assert torch.equal(late.predict(x0, mask), late(x0, mask)[-1])
    noisy = CDCIN(replace(TINY, noise_weight=3.0))
    last = noisy(x0, mask)[-1]
    torch.testing.assert_close(noisy.predict(x0, mask)[mask], (0.25 * last + 0.75 * x0)[mask])


@pytest.mark.parametrize("shape", [(16, 16), (21, 13), (8, 24), (3, 5)])
def test_any_size_goes_in_and_comes_out(shape):
    x0 = drawn(1, 1, *shape)
    assert CDCIN(TINY)(x0, x0 > 0.5)[-1].shape == x0.shape


@pytest.mark.parametrize(("shift", "shape"), [(0, (16, 16)), (4, (16, 16)), (0, (13, 18)), (4, (13, 18)), (4, (6, 6))])
def test_attention_reaches_its_window_and_nothing_else(shift, shape):
    """Not across the border that a shift wraps around, and not into padding."""
    torch.manual_seed(0)
    layer = WindowAttention(8, shift)
    h, w = shape
    at = torch.cartesian_prod(torch.arange(h), torch.arange(w))
    window = (at + shift) // 8 if shift else at // 8
    x = drawn(1, h, w, 8).requires_grad_()
    out = layer(x)
    for number in (0, len(at) // 2, len(at) - 1):
        i, j = at[number].tolist()
        (gradient,) = torch.autograd.grad(out[0, i, j].sum(), x, retain_graph=True)
        seen = (gradient[0].abs().sum(-1) > 0).flatten()
        assert torch.equal(seen, (window == window[number]).all(-1))


def test_attention_is_that_of_the_formula():
    torch.manual_seed(0)
    layer = WindowAttention(8, 0)
    x = drawn(1, 8, 8, 8)
    q, k, v = layer.qkv(x.view(64, 8)).view(64, 3, 4, 2).permute(1, 2, 0, 3)
    bias = torch.zeros(4, 64, 64)
    for a in range(64):
        for b in range(64):
            bias[:, a, b] = layer.bias[(a // 8 - b // 8 + 7) * 15 + a % 8 - b % 8 + 7]
    heads = ((q @ k.mT) * 2**-0.5 + bias).softmax(-1) @ v
    expected = layer.proj(heads.transpose(0, 1).reshape(64, 8)).view(1, 8, 8, 8)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_frugal_gradients_are_the_same(inputs):
    network = CDCIN(TINY)
    found = []
    for frugal in (False, True):
        network.set_frugal(frugal)
        network.zero_grad()
        torch.stack(network(*inputs)).sum().backward()
        found.append([p.grad.clone() for p in network.parameters()])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("wrong", [{"channels": 6}, {"cascades": 0}, {"noise_weight": -1.0}])
def test_shapes_that_can_not_be_built_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CDCIN(replace(TINY, **wrong))


def test_masked_l1_and_deep_supervision():
    target, scored = torch.zeros(1, 1, 2, 2), torch.tensor([[[[True, False], [True, False]]]])
    estimate = torch.tensor([[[[1.0, 50.0], [-3.0, 50.0]]]])
    assert masked_l1(estimate, target, scored) == 2.0
    assert masked_l1(estimate, target, torch.zeros_like(scored)).isnan()
    deep = deep_l1([estimate, 2 * estimate, 0 * estimate], target, scored)
    torch.testing.assert_close(deep, torch.tensor(2.0 / 3 + 4.0 * 2 / 3))


def test_the_factor_of_gene_losses():
    parts = {name: torch.tensor(1.0) for name in ("s2s", "s2d", "g1", "g2", "gradient")}
    assert total_loss(parts, CDCINTrainConfig()) == 4.0
    assert total_loss(parts, CDCINTrainConfig(gene_weight=30, gene_scale=10, gradient=0.5)) == 8.5
    assert total_loss({"g2": torch.tensor(2.0)}, CDCINTrainConfig()) == 2.0


def test_the_gradient_loss_is_a_slope():
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    everywhere = torch.ones_like(ramp, dtype=torch.bool)
    torch.testing.assert_close(gradient_l1(ramp, ramp * 0, everywhere), torch.tensor(0.5))  # mean of |1| and |0|
    assert gradient_l1(ramp + 7, ramp, everywhere) == 0
    holed = everywhere.clone()
    holed[..., 1::3, 1::3] = False
    assert gradient_l1(ramp, ramp * 0, holed) == 0
