"""A published checkpoint, with the files beside it, as config and tensors of ``vit``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stzoo import WeightsError
from stzoo.core.nn import ViTConfig, clip_towers, read_checkpoint, read_hints, vit_tower
from stzoo.core.nn.foreign import checkpoint_files
from stzoo.core.nn.layouts import CLIP_MARKS
from stzoo.core.runtime.digests import sha256_of
from stzoo.core.weights.manifest import read_json
from stzoo.plugins.vit.config import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, Pool, ViTEncoderConfig
from torch import Tensor

_NORMALISATION = (
    ("preprocessor_config.json", "", "image_mean", "image_std"),  # transformers
    ("config.json", "pretrained_cfg", "mean", "std"),  # timm
    ("open_clip_config.json", "preprocess_cfg", "mean", "std"),
)
"""Where each library writes it: file, the mapping in it, and its keys."""


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a checkpoint is to ``vit``.

    Parameters
    ----------
    config
        Shape, pooling and normalisation.
    state
        Tensors by the names of :class:`~stzoo.plugins.vit.tower.Tower`.
    sha256
        Digest of each safetensors file, by its name.
    """

    config: ViTEncoderConfig
    state: dict[str, Tensor]
    sha256: dict[str, str]


def read_foreign(path: Path) -> ForeignCheckpoint:
    """Read a checkpoint of CLIP or PLIP (transformers, open_clip), ViT or DINO (timm, transformers).

    Parameters
    ----------
    path
        A folder with the checkpoint, or one safetensors file; configs lie beside the tensors.

    Raises
    ------
    WeightsError
        No checkpoint, a pickle, keys of no known layout, a tensor missing or of another shape, or a config beside it
        that does not say what it should.
    """
    tensors, hints = read_checkpoint(path), read_hints(path)
    folder = path if path.is_dir() else path.parent
    is_clip = any(mark in tensors for mark in CLIP_MARKS.values())
    state: dict[str, Tensor] = {}
    if is_clip:
        parts = clip_towers(tensors, hints)
        shape, vision = parts.vision_config, parts.vision
        state["projection.weight"] = parts.visual_projection
    else:
        vision, shape = vit_tower(tensors, hints)
    state |= {f"vit.{name}": tensor for name, tensor in vision.items()}
    mean, std = _find_normalisation(folder) or ((CLIP_MEAN, CLIP_STD) if is_clip else (IMAGENET_MEAN, IMAGENET_STD))
    config = ViTEncoderConfig(
        **_shape_options(shape),
        projection=len(parts.visual_projection) if is_clip else 0,
        pool=Pool.class_token if is_clip else _read_pool(folder),
        mean=list(mean),
        std=list(std),
    )
    return ForeignCheckpoint(config, state, {file.name: sha256_of(file) for file in checkpoint_files(path)})


def _shape_options(shape: ViTConfig) -> dict[str, Any]:
    """Return the shape as options of ``vit``, which never drops anything."""
    return {name: value for name, value in asdict(shape).items() if name != "dropout"}


def _find_normalisation(folder: Path) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return mean and spread of RGB from the first file that says them; None: none does."""
    for name, part, mean, std in _NORMALISATION:
        where = folder / name
        said = _read_json(where)
        found = said.get(part, {}) if part else said
        if isinstance(found, Mapping) and {mean, std} <= set(found):
            return _check_rgb(found[mean], mean, where), _check_rgb(found[std], std, where)
    return None


def _check_rgb(value: object, key: str, where: Path) -> list[float]:
    if not (isinstance(value, list) and len(value) == 3 and all(type(number) in (int, float) for number in value)):
        raise WeightsError(f"'{key}' is {value!r}, expected three numbers", where=where)
    return [float(number) for number in value]


def _read_pool(folder: Path) -> Pool:
    """Return timm's pooling; DINO and transformers have the class token's.

    Raises
    ------
    WeightsError
        A pooling that ``vit`` has not.
    """
    where = folder / "config.json"
    said = _read_json(where).get("global_pool", "token")
    if said not in ("token", "avg", ""):  # "" is timm's for all tokens, of which the class token is the first
        raise WeightsError(f"the pooling '{said}' is not known", where=where, todo="known: token, avg")
    return Pool.mean_patches if said == "avg" else Pool.class_token


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
