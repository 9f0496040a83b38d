"""The text branch of configuration `plus`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stzoo.plugins.comtip.config import CoMTIPConfig, PairPool, TextConfig, Values
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.text_tower import GeneInputs, PairTower

ROOT = Path(__file__).resolve().parents[3]
SMALL = TextConfig(width=16, depth=1, heads=2)


def some_genes(g: int, described: int = 0) -> GeneInputs:
    generator = torch.Generator().manual_seed(g)
    tokens = torch.randint(1, 30, (g, 5), generator=generator)
    tokens[::2, 3:] = 0
    return GeneInputs(tokens, torch.arange(g), tokens != 0, torch.randn(g, described, generator=generator))


@pytest.mark.parametrize("pool", list(PairPool))
def test_profiles_do_not_depend_on_the_order_of_genes_and_leave_missing_ones_out(pool: PairPool) -> None:
    torch.manual_seed(0)
    tower = PairTower(TextConfig(width=16, depth=1, heads=2, pool=pool), 6, 30, 8).eval()
    genes, values = torch.randn(6, 16), torch.rand(3, 6) * 4
    order = torch.randperm(6)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(
        tower.encode_profiles(genes, values), tower.encode_profiles(genes[order], values[:, order]), **close
    )
    missing = torch.zeros(3, 6, dtype=torch.bool)
    missing[:, 4:] = True
    torch.testing.assert_close(
        tower.encode_profiles(genes, values, missing), tower.encode_profiles(genes[:4], values[:, :4]), **close
    )


@pytest.mark.parametrize("values", list(Values))
def test_genes_read_once_equal_the_naive_pass_of_every_pair(values: Values) -> None:
    torch.manual_seed(0)
    tower = PairTower(TextConfig(width=16, depth=2, heads=2, values=values, fourier=3), 7, 30, 8, n_described=4).eval()
    genes, x = some_genes(7, described=4), torch.rand(3, 7) * 8
    every = torch.arange(7).repeat(3)  # each pair encodes its gene anew
    code = tower.encode_genes(genes[every]).view(3, 7, -1)
    naive = torch.stack([tower.encode_profiles(code[i], x[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(tower.encode_profiles(tower.encode_genes(genes), x), naive, atol=1e-5, rtol=1e-5)


def test_alone_is_a_profile_of_one() -> None:
    torch.manual_seed(0)
    tower = PairTower(SMALL, 4, 30, 8).eval()
    code, values = tower.encode_genes(some_genes(4)), torch.rand(2, 4) * 5
    alone = tower.encode_pairs(code, values)
    for g in range(4):
        one = tower.encode_profiles(code[g : g + 1], values[:, g : g + 1])
        torch.testing.assert_close(alone[:, g], one, atol=1e-5, rtol=1e-5)


def test_a_gene_never_seen_has_no_vector_of_its_own() -> None:
    torch.manual_seed(0)
    tower = PairTower(SMALL, 4, 30, 8).eval()
    torch.nn.init.normal_(tower.residual.weight)
    seen = some_genes(4)
    unseen = GeneInputs(seen.tokens, torch.full((4,), -1), seen.symbol, seen.described)
    difference = tower.encode_genes(seen) - tower.encode_genes(unseen)
    torch.testing.assert_close(difference, tower.residual.weight.detach(), atol=1e-5, rtol=1e-5)


def test_reading_in_parts_gives_the_same_vectors_and_gradients() -> None:
    """A large batch is read in parts; its halves, small enough to be read at once, give the same."""
    torch.manual_seed(0)
    tower = PairTower(SMALL, 3000, 30, 8).double()
    genes, values = some_genes(3000), torch.rand(300, 3000, dtype=torch.float64) * 5
    read: list[int] = []
    tower.value.register_forward_hook(lambda module, given, made: read.append(len(given[0])))
    results = []
    for batches in ([values], list(values.split(150))):
        read.clear()
        tower.zero_grad()
        z = torch.cat([tower.encode_profiles(tower.encode_genes(genes), batch) for batch in batches])
        z.square().sum().backward()
        results.append([z.detach(), *(p.grad.clone() for p in tower.parameters() if p.grad is not None)])
        if len(batches) == 1:
            assert max(read) < 300
        else:
            assert read == [150, 150]
    assert len(results[0]) > 8
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_scores_of_a_grid_are_cosines_with_each_pair_alone() -> None:
    torch.manual_seed(0)
    config = CoMTIPConfig(embedding_dim=8, text=SMALL)
    config.vision.tile_px, config.vision.width, config.vision.depth = 64, 12, 1
    network = CoMTIPNetwork(config, 5, 30).eval()
    code, z, grid = network.text.encode_genes(some_genes(5)), torch.randn(3, 8), torch.linspace(0, 8, 4)
    scores = network.value_scores(z, code, grid)
    assert scores.shape == (3, 5, 4)
    text = network.text.encode_profiles(code[2:3], grid[1:2, None])
    cosine = torch.nn.functional.cosine_similarity(z, text)
    torch.testing.assert_close(scores[:, 2, 1], network.scale() * cosine, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_step_with_twenty_thousand_genes_of_64_spots_takes_less_than_four_gigabytes() -> None:
    """All losses of `comtip-tiny`, forward and backward, in a process of their own."""
    step = [sys.executable, str(ROOT / "benchmarks" / "comtip_step.py"), "--one", "64", "20000"]
    done = subprocess.run(step, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak_mib"] * 2**20 < 4e9
