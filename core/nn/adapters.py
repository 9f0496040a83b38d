"""Low-rank adapters (LoRA, Hu et al. 2021) on the linear layers of any module, through ``peft``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stzoo.core.errors import UsageError
from stzoo.core.runtime.seeding import use_seed
from torch import nn


def adapt(module: nn.Module, layers: Sequence[str], *, rank: int, seed: int) -> None:
    """Freeze a module and put low-rank adapters on some of its linear layers; the result computes the same at first.

    Parameters
    ----------
    module
        Changed in place: only the adapters ask for gradients afterwards.
    layers
        Names of the layers.
    rank
        Rank of an update; its scale is 2 (alpha = 2 rank).
    seed
        Seed of the first factors (the second ones start at 0).

    Raises
    ------
    UsageError
        ``peft`` is not installed, or the module has no such layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError(
            "low-rank adapters need the package 'peft'",
            todo="pip install 'stzoo[finetune]', or tune in full: --tune full",
        ) from error
    known = dict(module.named_modules())
    missing = [name for name in layers if not isinstance(known.get(name), nn.Linear)]
    if missing or not layers:
        raise UsageError(f"there is no linear layer '{missing[0]}' to adapt" if missing else "no layer to adapt")
    with use_seed(seed):
        config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(layers))
        inject_adapter_in_model(config, module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge(module: nn.Module) -> None:
    """Add the adapters to the layers they sit on and take them out: names and shapes are as before :func:`adapt`."""
    for name, part in list(module.named_modules()):
        if hasattr(part, "lora_A") and hasattr(part, "base_layer"):
            adapted: Any = part
            adapted.merge()
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, adapted.base_layer)
