"""The network and its domain layers: identity at the start, what moves, what is shared, what stays frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stzoo.core.training.loop import fit
from stzoo.plugins.st_dai.config import BackboneConfig, PDLConfig, RefineConfig, TunedPart
from stzoo.plugins.st_dai.network import PDL, STDAINetwork, adapt, count_untouched_layers, iterate_tuned_parameters
from stzoo.plugins.st_dai.training import Domain, Labels, RefineTask

DEPTH, WIDTH, INPUTS, PARTS, GENES = 3, 16, 5, 4, 9
SPOTS = 40


def trained(dropout: float = 0.0) -> STDAINetwork:
    """A network whose every weight is random, frozen as before refinement."""
    torch.manual_seed(0)
    config = BackboneConfig(width=WIDTH, depth=DEPTH, dropout=dropout)
    network = STDAINetwork(INPUTS, torch.randn(PARTS, GENES), config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False).eval()


def refined(
    tune: TunedPart,
    pdl: PDLConfig,
    folder: Path,
    network: STDAINetwork | None = None,
    steps: int = 5,
    kept: int | None = None,
    **options: float,
) -> list[STDAINetwork]:
    """Refine for two sections: spots 0-9 and 10-19 measured, the rest pseudo-labelled, 30-39 central."""
    kept = count_untouched_layers(tune, pdl, DEPTH) if kept is None else kept
    own = adapt(network or trained(), tune, pdl, 2)
    rng = torch.Generator().manual_seed(1)
    x, target = torch.randn(SPOTS, INPUTS, generator=rng), torch.randn(SPOTS, GENES, generator=rng)
    labels = Labels(x, target, torch.ones(SPOTS, 1))
    at = np.arange(SPOTS)
    domains = [Domain(at[:10], at[20:25], at[30:]), Domain(at[10:20], at[25:30], at[30:])]
    config = RefineConfig(tune=tune, steps=steps, learning_rate=0.05, **options)
    task = RefineTask(own, domains, labels, labels, config, None, kept=kept)
    fit(task, out=folder, steps=steps, seed=0, progress=False)
    return [one.eval() for one in own]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("layers", [1, DEPTH])
def test_adapted_networks_say_the_same_bits_before_they_learn(layers: int, rank: int, shared: bool) -> None:
    network, x = trained(), torch.randn(50, INPUTS)
    for own in adapt(network, TunedPart.pdl, PDLConfig(layers=layers, rank=rank, shared=shared), 2):
        assert torch.equal(own(x), network(x))
        assert [isinstance(pdl, PDL) for pdl in own.pdls] == [False] * (DEPTH - layers) + [True] * layers
    assert not any(isinstance(pdl, PDL) for pdl in network.pdls)


def test_a_domain_layer_is_its_formula() -> None:
    pdl, z = PDL(WIDTH, 3), torch.randn(7, WIDTH)
    for parameter in pdl.parameters():
        torch.nn.init.normal_(parameter)
    assert pdl.down is not None
    assert pdl.up is not None
    v, u = pdl.down.weight, pdl.up.weight
    by_hand = z * (1 + pdl.gamma) + pdl.beta + torch.nn.functional.gelu(z @ v.T) @ u.T
    torch.testing.assert_close(pdl(z), by_hand)


@pytest.mark.parametrize("rank", [0, 2, 8])
@pytest.mark.parametrize("layers", [1, 2, DEPTH])
def test_a_bank_has_as_many_parameters_as_the_specification_counts(layers: int, rank: int) -> None:
    own = adapt(trained(), TunedPart.pdl, PDLConfig(layers=layers, rank=rank), 1)
    assert sum(p.numel() for p in iterate_tuned_parameters(own)) == layers * (2 * WIDTH + 2 * WIDTH * rank)


@pytest.mark.parametrize("count", range(1, DEPTH + 1))
def test_a_network_can_be_taken_up_after_any_layer(count: int) -> None:
    network, x = trained(), torch.randn(7, INPUTS)
    network.pdls = torch.nn.ModuleList(PDL(WIDTH, 2) for _ in network.layers)
    for parameter in network.pdls.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.testing.assert_close(network.from_layer(network.until_layer(x, count), count), network(x))


@pytest.mark.parametrize("layers", [1, 2])
def test_what_is_kept_before_the_domain_layers_changes_no_result(layers: int, tmp_path: Path) -> None:
    pdl, found = PDLConfig(layers=layers), []
    for run, kept in enumerate((None, 1)):  # None: all that can be kept
        torch.manual_seed(5)
        found.append(refined(TunedPart.pdl, pdl, tmp_path / str(run), trained(), kept=kept))
    assert count_untouched_layers(TunedPart.pdl, pdl, DEPTH) > 1
    for a, b in zip(*found, strict=True):
        for first, second in zip(a.pdls.parameters(), b.pdls.parameters(), strict=True):
            torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("tune", "wanted"), [(TunedPart.all, 0), (TunedPart.head, DEPTH), (TunedPart.pdl, 2), (TunedPart.pdl_head, 2)]
)
def test_hidden_units_that_count_as_settled_do_not_change(tune: TunedPart, wanted: int, tmp_path: Path) -> None:
    pdl, network, x = PDLConfig(layers=2), trained(), torch.randn(7, INPUTS)
    count = count_untouched_layers(tune, pdl, DEPTH)
    assert count == wanted
    for own in refined(tune, pdl, tmp_path, network):
        for number in range(1, count + 1):
            assert torch.equal(own.until_layer(x, number), network.until_layer(x, number))
        if count < DEPTH:
            assert not torch.allclose(own.until_layer(x, count + 1), network.until_layer(x, count + 1))


@pytest.mark.parametrize(
    ("tune", "moving"),
    [(TunedPart.pdl, {"pdls"}), (TunedPart.head, {"head"}), (TunedPart.pdl_head, {"pdls", "head"})],
)
def test_what_is_frozen_keeps_its_bits_and_the_rest_moves(tune: TunedPart, moving: set[str], tmp_path: Path) -> None:
    network = trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = refined(tune, PDLConfig(), tmp_path, network)
    for own in (first, second):
        assert {name.split(".")[0] for name, p in own.named_parameters() if p.requires_grad} == moving
        for name, value in own.state_dict().items():
            if name.split(".")[0] not in moving:
                assert torch.equal(value, before[name])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    x = torch.randn(6, INPUTS)
    assert not torch.allclose(first(x), network(x))
    assert not torch.allclose(first(x), second(x))
    start = adapt(network, tune, PDLConfig(), 1)[0].state_dict()
    changed = {n.split(".")[0] for n, value in first.state_dict().items() if not torch.equal(value, start[n])}
    assert changed == moving


def test_tuning_all_moves_a_copy_of_every_layer(tmp_path: Path) -> None:
    network = trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own = refined(TunedPart.all, PDLConfig(), tmp_path, network)
    assert sum(p.numel() for p in iterate_tuned_parameters(own)) == 2 * sum(p.numel() for p in network.parameters())
    for name, value in own[0].named_parameters():
        assert not torch.equal(value, before[name]), name
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_sections_share_the_bottleneck_and_nothing_else(tmp_path: Path) -> None:
    first, second = refined(TunedPart.pdl, PDLConfig(layers=DEPTH, rank=2, shared=True), tmp_path)
    for a, b in zip(first.pdls, second.pdls, strict=True):
        assert isinstance(a, PDL)
        assert isinstance(b, PDL)
        assert a.up is b.up
        assert a.down is b.down
        assert not torch.equal(a.gamma, b.gamma)
        assert not torch.equal(a.beta, b.beta)
    affine, low_rank = DEPTH * 2 * WIDTH, DEPTH * 2 * WIDTH * 2
    assert sum(p.numel() for p in iterate_tuned_parameters([first, second])) == 2 * affine + low_rank


def test_without_sharing_sections_do_not_touch_each_other(tmp_path: Path) -> None:
    """One section's labels changed leave the other's parameters at their bits."""
    found = []
    for run, scale in enumerate((1.0, -3.0)):
        own = adapt(trained(), TunedPart.pdl, PDLConfig(rank=0), 2)
        rng = torch.Generator().manual_seed(1)
        x, target = torch.randn(SPOTS, INPUTS, generator=rng), torch.randn(SPOTS, GENES, generator=rng)
        target[10:20] *= scale
        labels, at = Labels(x, target, torch.ones(SPOTS, 1)), np.arange(SPOTS)
        domains = [Domain(at[:10], at[20:25], at[30:]), Domain(at[10:20], at[25:30], at[30:])]
        task = RefineTask(own, domains, labels, labels, RefineConfig(steps=3), None, kept=DEPTH)
        fit(task, out=tmp_path / str(run), steps=3, seed=0, clip=None, progress=False)
        found.append(own)
    assert all(
        torch.equal(a, b) for a, b in zip(found[0][0].pdls.parameters(), found[1][0].pdls.parameters(), strict=True)
    )
    assert not torch.equal(next(found[0][1].pdls.parameters()), next(found[1][1].pdls.parameters()))


def test_the_loss_is_the_sum_that_is_documented() -> None:
    network = trained()
    own = adapt(network, TunedPart.pdl, PDLConfig(layers=DEPTH), 1)
    for parameter in own[0].pdls.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, truth, guess = (torch.randn(SPOTS, n) for n in (INPUTS, GENES, GENES))
    weight = torch.rand(SPOTS, 1)
    one, other, third = np.array([3]), np.array([7]), np.array([9])  # drawn with replacement: always these
    config = RefineConfig(measured=2.0, pseudo=0.7, replay=0.3, penalty=0.1)
    domain, known, guessed = Domain(one, other, third), Labels(x, truth, weight), Labels(x, guess, weight)
    task = RefineTask(own, [domain], known, guessed, config, None, kept=1)
    with torch.no_grad():
        for parameter in own[0].pdls.parameters():
            parameter += 0.5
    found = task.losses(0, torch.Generator().manual_seed(0))
    errors = [((own[0](x[i]) - y[i]) ** 2).mean() for i, y in ((one, truth), (other, guess), (third, truth))]
    moved = 0.25 * DEPTH * (2 * WIDTH + 2 * WIDTH * 2)
    wanted = 2.0 * errors[0] + 0.7 * errors[1] + 0.3 * errors[2] + 0.1 * moved
    torch.testing.assert_close(found["loss"], wanted, rtol=1e-4, atol=1e-4)


def test_errors_count_by_weight_and_none_drawn_is_no_error() -> None:
    x, target = torch.zeros(3, 1), torch.tensor([[1.0], [2.0], [9.0]])
    labels = Labels(x, target, torch.tensor([[3.0], [1.0], [0.0]]))
    error = labels.mean_error(torch.zeros(3, 1), torch.arange(3))
    assert float(error) == pytest.approx((3 * 1 + 1 * 4) / 4)
    assert float(labels.mean_error(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))) == 0
