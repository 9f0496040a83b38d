"""torch's global generator, borrowed: what can draw from nothing else (initial weights, dropout) draws from a seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_BORROWED = threading.RLock()
"""The generator is the process's: two threads that seed it in turn would draw from each other's seeds."""


@contextmanager
def use_seed(seed: int, *, devices: Sequence[int] = ()) -> Iterator[None]:
    """Draw from a seed for a while, one thread at a time; the caller's own random numbers go on undisturbed.

    Parameters
    ----------
    seed
        Of the global generators of the CPU and of ``devices``.
    devices
        Numbers of the CUDA devices whose generators are given back as well.
    """
    import torch

    with _BORROWED, torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield
