"""Linear layers in 8-bit integers, for inference on a CPU."""

from __future__ import annotations

import copy
import warnings
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def quantise(module: M) -> M:
    """Return a copy whose linear layers compute in int8: weights once, activations as they come (torch's dynamic kind).

    About twice as fast as float32 for a ViT-B/32 on a CPU with VNNI, and not quite the same; ``benchmarks/int8.py``
    measures what it costs. The copy has no gradients and is not to be saved.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the next home of quantize_dynamic
        dynamic = torch.ao.quantization.quantize_dynamic
        small: M = dynamic(copy.deepcopy(module).cpu().eval(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    return small
