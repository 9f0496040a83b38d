"""The losses of CoMTIP, and the networks that only training uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from info_nce_run import batch, form_half
from stzoo.plugins.comtip.config import Generator, MFMLoss, Paat, VisionConfig
from stzoo.plugins.comtip.image_tower import N_STATISTICS, ImageTower, SpotGenerator
from stzoo.plugins.comtip.losses import (
    Discriminator,
    correlation_loss,
    feature_distance,
    info_nce,
    masked_feature_loss,
    masked_spot_loss,
    pair_loss,
    reverse_gradient,
    shuffle_values,
    value_ranking,
)


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


def order(b: int, n: int) -> torch.Tensor:
    return torch.rand(b, n, generator=torch.Generator().manual_seed(0)).argsort(1)


def test_masked_features_teach_the_visible_branch_only() -> None:
    tower = ImageTower(VisionConfig(tile_px=64, width=24, depth=1, heads=2), 8)
    inputs = torch.randn(3, 4, N_STATISTICS)
    teacher = tower(inputs)[1].detach().requires_grad_(True)
    masked_feature_loss(tower, inputs, teacher, order(3, 4), 0.5).backward()
    assert teacher.grad is None
    assert tower.generator.query.grad is not None


def test_a_permuted_profile_as_negative_adds_one_column_for_its_own_image() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.standard_normal((3, 5, 4)))
    logits = 9.0 * a @ b.T
    wide = np.hstack([logits, 9.0 * (a * c).sum(axis=1, keepdims=True)])
    there = np.mean(np.log(np.exp(wide).sum(axis=1)) - np.diag(logits))
    back = np.mean(np.log(np.exp(logits.T).sum(axis=1)) - np.diag(logits))
    loss = info_nce(torch.tensor(a), torch.tensor(b), torch.tensor(9.0).double(), negatives=torch.tensor(c))
    assert float(loss) == pytest.approx(0.5 * (there + back), rel=1e-9)


def test_info_nce_of_two_ranks_is_that_of_the_global_batch_gradients_too(tmp_path: Path) -> None:
    mp.spawn(form_half, args=(str(tmp_path),), nprocs=2)
    image, text = (x.requires_grad_(True) for x in batch())
    loss = info_nce(image, text, torch.tensor(5.0))
    loss.backward()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for part in parts:
        torch.testing.assert_close(part["loss"], loss.detach())
    for name, whole in (("image", image), ("text", text)):
        mean = torch.cat([part[name] for part in parts]) / 2  # DDP's mean of the ranks' gradients
        torch.testing.assert_close(mean, whole.grad, atol=1e-6, rtol=1e-5)


def test_reversal_keeps_the_value_and_turns_the_gradient() -> None:
    x = torch.randn(4, requires_grad=True)
    out = reverse_gradient(x, 0.5)
    assert torch.equal(out, x)
    out.sum().backward()
    assert torch.equal(x.grad, torch.full((4,), -0.5))


@pytest.mark.parametrize(("share", "moved"), [(1.0, 12), (0.5, 6)])
def test_shuffling_permutes_the_values_of_each_sample_by_itself(share: float, moved: int) -> None:
    values = torch.arange(36.0).view(3, 12)
    shuffled = shuffle_values(values, share, torch.Generator().manual_seed(0))
    assert torch.equal(shuffled.sort(dim=1).values, values)  # the same multiset in each row
    changed = (shuffled != values).any(dim=0)
    assert 0 < int(changed.sum()) <= moved
    assert len({tuple(row.tolist()) for row in shuffled - values[:, :1]}) > 1  # not one order for all


def _separation(kind: Paat) -> float:
    """Train 24 free vectors' encoder on L_pair alone; return how far matched and shuffled ones are apart."""
    torch.manual_seed(0)
    genes = torch.randn(24, 16) * 0.3
    encoder = torch.nn.Sequential(torch.nn.Linear(17, 32), torch.nn.GELU(), torch.nn.Linear(32, 16))
    judge = Discriminator(16)
    optimiser = torch.optim.Adam([*encoder.parameters(), *judge.parameters()], lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    levels = torch.rand(24, generator=generator) * 3

    def pooled(values: torch.Tensor) -> torch.Tensor:
        pairs = torch.cat([genes.expand(len(values), -1, -1), values[..., None]], dim=-1)
        return encoder(pairs).mean(1)

    def vectors() -> tuple[torch.Tensor, torch.Tensor]:
        values = levels + 0.3 * torch.randn(64, 24, generator=generator)
        return pooled(values), pooled(shuffle_values(values, 1.0, generator))

    for _ in range(250):
        right, wrong = vectors()
        loss = pair_loss(kind, judge, right, wrong, 1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right, wrong = (torch.nn.functional.normalize(x, dim=-1) for x in vectors())
        spread = (right - right.mean(0)).norm(dim=1).mean() + (wrong - wrong.mean(0)).norm(dim=1).mean()
        return float((right.mean(0) - wrong.mean(0)).norm() / spread)


@pytest.mark.parametrize("kind", [Paat.paper, Paat.critic])
def test_both_readings_of_paat_teach_the_encoder_to_tell_right_pairs_from_wrong_ones(kind: Paat) -> None:
    torch.manual_seed(0)
    assert _separation(kind) > 0.3


@pytest.mark.parametrize("kind", list(Generator))
def test_generated_features_do_not_depend_on_what_is_hidden(kind: Generator) -> None:
    tower = ImageTower(VisionConfig(tile_px=128, width=24, depth=1, heads=2, skip=False), 8, kind).eval()
    inputs = torch.randn(2, 16, N_STATISTICS)
    visible, seen, hidden, made = tower.encode_masked(inputs, order(*inputs.shape[:2]), 0.5)
    assert visible.shape == hidden.shape == (2, 8)
    changed = inputs.clone()
    changed[torch.arange(2)[:, None], hidden] += 5.0
    again = tower.encode_masked(changed, order(*inputs.shape[:2]), 0.5)
    torch.testing.assert_close(again[1], seen)
    torch.testing.assert_close(again[3], made)
    assert made.shape == (2, 8, 24)


def test_spots_are_generated_from_visible_ones_only() -> None:
    spots = SpotGenerator(16)
    z, um = torch.randn(10, 16), torch.rand(10, 2) * 1000
    hidden = torch.tensor([2, 7])
    made = spots(z, um, hidden)
    poisoned = z.clone()
    poisoned[hidden] = 1e6
    torch.testing.assert_close(spots(poisoned, um, hidden), made)
    shifted = spots(z, um + 12345.0, hidden)  # places count, not the origin
    torch.testing.assert_close(shifted, made, atol=1e-2, rtol=1e-2)
    loss = masked_spot_loss(spots, z, um, 0.5, torch.Generator().manual_seed(0))
    assert 0 <= float(loss.detach()) <= 2


def test_feature_distances_are_zero_for_equal_features_of_their_kind() -> None:
    x = torch.randn(3, 4, 32)
    assert float(feature_distance(x, x, MFMLoss.mse)) == 0
    assert float(feature_distance(3 * x, x, MFMLoss.cosine)) == pytest.approx(0, abs=1e-6)
    normed = torch.nn.functional.layer_norm(x, (32,))
    assert float(feature_distance(normed, 7 * x + 2, MFMLoss.normalised)) == pytest.approx(0, abs=1e-6)


def test_correlation_loss_is_one_minus_the_mean_correlation_of_scipy() -> None:
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    scores, values = rng.standard_normal((20, 3, 8)), rng.random((20, 3))
    grid = np.linspace(0, 8, 8)
    share = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = 1 - np.mean([pearsonr(share[:, g] @ grid, values[:, g])[0] for g in range(3)])
    loss = correlation_loss(*(torch.tensor(x) for x in (scores, values, grid)))
    assert float(loss) == pytest.approx(expected, rel=1e-6)
