"""The global generator is lent: same seed, same numbers, and the owner's own go on undisturbed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from stzoo.core.runtime.seeding import use_seed


def drawn(seed):
    with use_seed(seed):
        return torch.randn(2000)


def faulty(seed):
    with use_seed(seed):
        torch.randn(100)
        raise ValueError("a fault")


def test_the_same_seed_draws_the_same_and_the_callers_numbers_go_on():
    torch.manual_seed(1)
    expected = torch.randn(4)
    torch.manual_seed(1)
    first = torch.randn(2)
    with pytest.raises(ValueError, match="a fault"):
        faulty(7)
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert torch.equal(torch.cat([first, torch.randn(2)]), expected)


def test_blocks_within_blocks_keep_their_own_numbers():
    with use_seed(5):
        alone = torch.randn(4)
    with use_seed(5):
        first = torch.randn(2)
        drawn(6)
        assert torch.equal(torch.cat([first, torch.randn(2)]), alone)


def test_threads_do_not_draw_from_each_others_seeds():
    expected = [drawn(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for want, got in zip(expected * 3, pool.map(drawn, list(range(8)) * 3), strict=True):
            assert torch.equal(want, got)
