"""Activation checkpointing: what is dear to keep is computed again for its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def frugal(function: Callable[..., Tensor], *, when: bool = True) -> Callable[..., Tensor]:
    """Return a function that keeps nothing for the backward pass but its inputs; it must draw no random numbers.

    Parameters
    ----------
    when
        False to return ``function`` itself, as is done where no gradient is wanted.
    """
    if not (when and torch.is_grad_enabled()):
        return function

    def run(*inputs: Any) -> Tensor:
        out: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return out

    return run
