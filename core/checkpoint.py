"""Checkpoints of a training run: safetensors and JSON, whole or absent, never pickle.

A run keeps its last two in ``OUT/checkpoints/00001200/``; one is complete when its folder has that name, for it is
written beside it and moved. Each says the sha256 of its tensors, and one that is damaged is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from stzoo.core.errors import ConfigError, WeightsError
from stzoo.core.output import writing
from torch import Tensor

_FORMAT = 1
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Parameters
    ----------
    step
        Steps done.
    identity
        Seed, configuration and whatever else must be the same when the run goes on; JSON values.
    losses
        Losses of the last step done.
    tensors
        Every tensor of the module (``module.*``) and of the optimiser (``optimizer.*``).
    groups
        The optimiser's parameter groups, without parameters; JSON values.
    """

    step: int
    identity: Mapping[str, Any]
    losses: Mapping[str, float]
    tensors: Mapping[str, Tensor]
    groups: list[dict[str, Any]]


def save_checkpoint(out: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and drop all but the last two.

    Raises
    ------
    OutputError
        The disk refuses it (full, read-only); the checkpoints there stay as they are.
    """
    folder = out / "checkpoints" / f"{checkpoint.step:08d}"
    with writing(folder, overwrite=True) as scratch:
        scratch.mkdir()
        save_file(_own_memory(checkpoint.tensors), scratch / "state.safetensors")
        about = {
            "format": _FORMAT,
            "step": checkpoint.step,
            "identity": checkpoint.identity,
            "losses": checkpoint.losses,
            "groups": checkpoint.groups,
            "sha256": _digest(scratch / "state.safetensors"),
        }
        (scratch / "checkpoint.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        for file in scratch.iterdir():
            _flush(file)
    for old in checkpoint_folders(out)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_checkpoint(out: Path) -> Checkpoint | None:
    """Return the last whole checkpoint of a run, or None when it has none.

    Raises
    ------
    WeightsError
        There are checkpoints, and all of them are damaged.
    """
    problems = []
    for folder in reversed(checkpoint_folders(out)):
        try:
            return _read(folder)
        except (OSError, ValueError, KeyError, WeightsError) as error:
            problems.append(f"{folder.name}: {error}")
            warnings.warn(f"checkpoint passed over, {problems[-1]}", stacklevel=2)
    if problems:
        raise WeightsError(
            "every checkpoint is damaged: " + "; ".join(problems), where=out, todo="train from the start"
        )
    return None


def checkpoint_folders(out: Path) -> list[Path]:
    """Return the folders of the complete checkpoints of a run, oldest first."""
    parent = out / "checkpoints"
    return sorted(f for f in parent.iterdir() if f.is_dir() and f.name.isdigit()) if parent.is_dir() else []


def sweep(out: Path) -> None:
    """Remove what a killed run left half written."""
    parent = out / "checkpoints"
    for leftover in parent.glob(".*") if parent.is_dir() else ():
        shutil.rmtree(leftover, ignore_errors=True)


def refuse_other_run(checkpoint: Checkpoint, identity: Mapping[str, Any], where: object) -> None:
    """Refuse to go on with another seed or configuration, naming each difference.

    Raises
    ------
    ConfigError
        Something differs.
    """
    then, now = _flat(checkpoint.identity), _flat(json.loads(json.dumps(identity)))
    missing = "(absent)"
    differ = [
        f"{key}: {then.get(key, missing)!r} in the checkpoint, {now.get(key, missing)!r} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key, missing) != now.get(key, missing)
    ]
    if differ:
        raise ConfigError(
            "this run was started otherwise: " + "; ".join(differ),
            where=where,
            todo="resume with the same values, or train into another folder",
        )


def _read(folder: Path) -> Checkpoint:
    about = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
    if about["format"] != _FORMAT:
        raise WeightsError(f"checkpoint format {about['format']}, this version reads {_FORMAT}")
    file = folder / "state.safetensors"
    if _digest(file) != about["sha256"]:
        raise WeightsError("state.safetensors does not have the sha256 that checkpoint.json gives")
    return Checkpoint(about["step"], about["identity"], about["losses"], load_file(file), about["groups"])


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, contiguous, none sharing memory with another (safetensors refuses that)."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        own[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(own[name].data_ptr())
    return own


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return an optimiser's state as named tensors, and its groups as JSON values."""
    state = optimizer.state_dict()
    tensors = {
        f"optimizer.{index}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entry in state["state"].items()
        for key, value in entry.items()
        if value is not None
    }
    groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
    return tensors, groups


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Give an optimiser of the same parameters the state that :func:`pack_optimizer` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    current = optimizer.state_dict()["param_groups"]
    merged = [
        {**now, **{k: tuple(v) if isinstance(v, list) else v for k, v in then.items()}, "params": now["params"]}
        for now, then in zip(current, groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": merged})
