"""Torch devices by name, checked before anything is loaded onto them."""

from __future__ import annotations

from stzoo.core.errors import UsageError


def check_device(name: str) -> str:
    """Return the name of a device that takes tensors.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    import torch

    if name == "cpu":
        return name
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UsageError(f"device '{name}' is not usable: {reason}", todo="use cpu, or cuda where a GPU is") from error
    return name
