"""Files of a checkpoint: its tensors (safetensors only), and what the config beside them says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo.core.errors import WeightsError
from stzoo.core.weights.manifest import check_header, read_json
from torch import Tensor

_FILES = ("model.safetensors", "open_clip_model.safetensors")
_INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT = (
    "convert it where you trust it: "
    "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors')"
)
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}


@dataclass(frozen=True)
class TowerHints:
    """What shapes do not say of a tower; None: what is usual in its layout.

    Parameters
    ----------
    heads
        Heads of a block; usual is one for each 64 of width.
    quick_gelu
        CLIP's activation or GELU; usual in transformers' CLIP and in no ViT. open_clip's layout has no usual one.
    eps
        Epsilon of the layer norms; usual is 1e-5 in CLIP, 1e-6 in timm, 1e-12 in transformers' ViT.
    """

    heads: int | None = None
    quick_gelu: bool | None = None
    eps: float | None = None


@dataclass(frozen=True)
class Hints:
    """What the config beside a checkpoint says that its tensors do not."""

    vision: TowerHints = TowerHints()
    text: TowerHints = TowerHints()


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Parameters
    ----------
    path
        A safetensors file, or a folder with ``model.safetensors``, ``open_clip_model.safetensors``, the parts that
        ``model.safetensors.index.json`` names, or one other safetensors file.

    Raises
    ------
    WeightsError
        Nothing is there, it is pickled, or it is no whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for part in checkpoint_files(path):
        try:
            check_header(part)
            state.update(load_file(part))
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"not a readable safetensors file: {error}", where=part) from error
    return state


def read_hints(path: Path) -> Hints:
    """Read ``config.json`` (transformers) or ``open_clip_config.json`` beside a checkpoint; there may be neither.

    Raises
    ------
    WeightsError
        The config is no JSON object, or names an activation that our blocks do not have.
    """
    folder = path if path.is_dir() else path.parent
    where = folder / "config.json"
    config = _json(where)
    if "vision_config" in config and "text_config" in config:
        return Hints(
            *(_of_transformers(_mapping(config[key], where), where) for key in ("vision_config", "text_config"))
        )
    if "num_attention_heads" in config:
        return Hints(vision=_of_transformers(config, where))
    where = folder / "open_clip_config.json"
    config = _json(where)
    return _of_open_clip(_mapping(config.get("model_cfg"), where), where) if config else Hints()


def _of_transformers(config: Mapping[str, Any], where: Path) -> TowerHints:
    activation = config.get("hidden_act")
    if activation is not None and activation not in _ACTIVATIONS:
        raise WeightsError(
            f"the activation '{activation}' is not known", where=where, todo=f"known: {', '.join(_ACTIVATIONS)}"
        )
    quick_gelu = None if activation is None else _ACTIVATIONS[activation]
    return TowerHints(config.get("num_attention_heads"), quick_gelu, config.get("layer_norm_eps"))


def _of_open_clip(config: Mapping[str, Any], where: Path) -> Hints:
    vision, text = (_mapping(config.get(key), where) for key in ("vision_cfg", "text_cfg"))
    quick_gelu = bool(config.get("quick_gelu", False))  # open_clip's own default
    heads = vision["width"] // vision["head_width"] if {"width", "head_width"} <= set(vision) else None
    return Hints(TowerHints(heads, quick_gelu), TowerHints(text.get("heads"), quick_gelu))


def checkpoint_files(path: Path) -> list[Path]:
    """Return the safetensors files that :func:`read_checkpoint` reads, by the same rules and with its errors."""
    if path.is_file():
        if path.suffix.lower() in _PICKLED:
            raise WeightsError(f"'{path.name}' is a pickle, which can run code; it is never opened", todo=_CONVERT)
        return [path]
    if not path.is_dir():
        raise WeightsError(f"no checkpoint at {path}", todo="check the path")
    named = [path / name for name in _FILES if (path / name).is_file()]
    if named:
        return named[:1]
    if (path / _INDEX).is_file():
        return _shards(path)
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files
    if files:
        raise WeightsError(f"{len(files)} safetensors files, and none is {_FILES[0]}", where=path, todo="name one")
    pickled = sorted(p.name for p in path.iterdir() if p.suffix.lower() in _PICKLED)
    if pickled:
        raise WeightsError(
            f"only '{pickled[0]}', a pickle, which can run code; it is never opened", where=path, todo=_CONVERT
        )
    raise WeightsError("the folder has no safetensors file", where=path, todo="check the path")


def _shards(folder: Path) -> list[Path]:
    where = folder / _INDEX
    names = set(_mapping(_json(where).get("weight_map"), where).values())
    for name in names:
        if not (isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")):
            raise WeightsError(f"the index names {name!r}, which is no safetensors file beside it", where=where)
        if not (folder / name).is_file():
            raise WeightsError(f"part '{name}' is missing", where=folder, todo="get the checkpoint again")
    return [folder / name for name in sorted(names)]


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where there is no such file."""
    return read_json(path) if path.is_file() else {}


def _mapping(content: object, where: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise WeightsError("the file is not what its name promises: a mapping is missing", where=where)
    return content
