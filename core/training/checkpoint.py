"""Checkpoints of a training run: safetensors and JSON, whole or absent, never pickle.

A run keeps its last two in ``OUT/checkpoints/00001200/``; one is complete when its folder has that name, for it is
written beside it and moved. Each says the sha256 of its tensors, and one that is damaged is passed over. The weights of
the best validation are in ``OUT/best/00000900/``, in the same format; those that a kept checkpoint refers to stay.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stzoo.core.errors import ConfigError, OutputError, WeightsError
from stzoo.core.runtime.digests import sha256_of
from stzoo.core.runtime.outputs import writing
from stzoo.core.training.sharding import shard_tensor, whole
from torch import Tensor

_FORMAT = 2
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
    optimizer
        What the optimiser's state has besides tensors, as JSON values.
    run
        What the run found out on its way: the precision it chose (``"precision"``), how validation stands
        (``"validation"``); JSON values.
    """

    step: int
    identity: Mapping[str, Any]
    losses: Mapping[str, float]
    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    run: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(out: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and drop all but the last two, and the best weights that none of them refers to.

    Raises
    ------
    OutputError
        The disk refuses it (full, read-only); the checkpoints there stay as they are.
    """
    folder = _write(out / "checkpoints" / f"{checkpoint.step:08d}", checkpoint)
    for old in checkpoint_folders(out)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    referred_to = {_best_step(kept) for kept in checkpoint_folders(out)}
    for old in _list_numbered(out / "best"):
        if int(old.name) not in referred_to:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def save_best(out: Path, checkpoint: Checkpoint) -> Path:
    """Write the weights of a validation that was the best so far; earlier ones stay until the next checkpoint.

    Raises
    ------
    OutputError
        As of :func:`save_checkpoint`.
    """
    return _write(out / "best" / f"{checkpoint.step:08d}", checkpoint)


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
        except (OSError, ValueError, KeyError, SafetensorError, WeightsError) as error:
            problems.append(f"{folder.name}: {error}")
            warnings.warn(f"checkpoint passed over, {problems[-1]}", stacklevel=2)
    if problems:
        raise WeightsError(
            "every checkpoint is damaged: " + "; ".join(problems), where=out, todo="train from the start"
        )
    return None


def load_best(out: Path, step: int) -> Checkpoint:
    """Return the weights of the best validation, after so many steps.

    Raises
    ------
    WeightsError
        They are gone or damaged.
    """
    folder = out / "best" / f"{step:08d}"
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, SafetensorError, WeightsError) as error:
        raise WeightsError(
            f"the weights of the best validation can not be read: {error}", where=folder, todo="train from the start"
        ) from error


def checkpoint_folders(out: Path) -> list[Path]:
    """Return the folders of the complete checkpoints of a run, oldest first."""
    return _list_numbered(out / "checkpoints")


def describe_last(out: Path) -> dict[str, Any]:
    """Return how the steps before the last checkpoint were computed (``accumulate``, ``precision``); empty without one.

    The precision is the one that ``auto`` chose.
    """
    try:
        about = json.loads((checkpoint_folders(out)[-1] / "checkpoint.json").read_text(encoding="utf-8"))
        return {"accumulate": about["identity"]["accumulate"], "precision": about["run"]["precision"]}
    except (IndexError, OSError, ValueError, KeyError):
        return {}


def sweep(out: Path) -> None:
    """Remove what a killed run left half written."""
    for leftover in [*out.glob("checkpoints/.*"), *out.glob("best/.*"), *out.glob(".*.csv.*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def refuse_other_run(checkpoint: Checkpoint, identity: Mapping[str, Any], where: object) -> None:
    """Refuse to go on with another seed or configuration, naming each difference.

    Raises
    ------
    ConfigError
        Something differs.
    """
    then, now = _flat(checkpoint.identity), _flat(json.loads(json.dumps(identity)))
    differ = [
        f"{key}: {_show(then, key)} in the checkpoint, {_show(now, key)} now"
        for key in sorted(then.keys() | now.keys())
        if _show(then, key) != _show(now, key)
    ]
    if differ:
        raise ConfigError(
            "this run was started otherwise: " + "; ".join(differ),
            where=where,
            todo="resume with the same values, or train into another folder",
        )


def _list_numbered(parent: Path) -> list[Path]:
    return sorted(f for f in parent.iterdir() if f.is_dir() and f.name.isdigit()) if parent.is_dir() else []


def _best_step(folder: Path) -> int | None:
    """Step of the best weights that a checkpoint refers to; None without any, or if it is damaged."""
    try:
        about = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
        found: int | None = about["run"]["validation"]["best_step"]
    except (OSError, ValueError, KeyError):
        return None
    return found


def _write(folder: Path, checkpoint: Checkpoint) -> Path:
    with writing(folder, overwrite=True) as scratch:
        scratch.mkdir()
        try:
            save_file(_own_memory(checkpoint.tensors), scratch / "state.safetensors")
        except SafetensorError as error:  # it wraps what the disk said
            todo = "make room, then go on with --resume (resume=True)"
            raise OutputError(f"can not write a checkpoint: {error}", where=folder, todo=todo) from error
        about = {
            "format": _FORMAT,
            "step": checkpoint.step,
            "identity": checkpoint.identity,
            "losses": checkpoint.losses,
            "optimizer": checkpoint.optimizer,
            "run": checkpoint.run,
            "sha256": sha256_of(scratch / "state.safetensors"),
        }
        (scratch / "checkpoint.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        for file in scratch.iterdir():
            _flush(file)
    return folder


def _read(folder: Path) -> Checkpoint:
    about = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
    if about["format"] != _FORMAT:
        raise WeightsError(f"checkpoint format {about['format']}, this version reads {_FORMAT}")
    file = folder / "state.safetensors"
    if sha256_of(file) != about["sha256"]:
        raise WeightsError("state.safetensors does not have the sha256 that checkpoint.json gives")
    return Checkpoint(
        about["step"], about["identity"], about["losses"], load_file(file), about["optimizer"], about["run"]
    )


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


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "absent"


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimiser's state as named tensors, and the rest of it as JSON values."""
    state = optimizer.state_dict()
    entries = [(f"{index}.{key}", value) for index, own in state["state"].items() for key, value in own.items()]
    tensors = {f"optimizer.{name}": whole(value) for name, value in entries if isinstance(value, Tensor)}
    scalars = {name: value for name, value in entries if not isinstance(value, Tensor)}
    groups = [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]]
    return tensors, {"groups": groups, "scalars": scalars}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Give an optimiser of the same parameters the state that :func:`pack_optimizer` returned.

    Raises
    ------
    ValueError
        It has other parameter groups.
    """
    named = {k.removeprefix("optimizer."): t for k, t in tensors.items() if k.startswith("optimizer.")}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    named = {name: shard_tensor(parameters[int(name.split(".", 1)[0])], tensor) for name, tensor in named.items()}
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**named, **rest["scalars"]}.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    groups = [
        {**{k: tuple(v) if isinstance(v, list) else v for k, v in then.items()}, "params": now["params"]}
        for now, then in zip(optimizer.state_dict()["param_groups"], rest["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
