"""A repository of weights: a folder that is checked, byte for byte, before a tensor is read.

``config.json`` (format version, method, its config, what belongs to the weights), ``model.safetensors``,
``README.md`` (the model card), small assets, and ``MANIFEST.json`` (bytes and sha256 of every other file).
Nothing in it can run code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo.core.errors import OutputError, WeightsError, nearest
from stzoo.core.runtime.outputs import writing
from stzoo.core.weights.manifest import (
    AGAIN,
    ASSET_SUFFIXES,
    CARD,
    CONFIG,
    MANIFEST,
    TENSORS,
    is_allowed_name,
    read_json,
    verify,
    write_manifest,
)

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
"""Version of the layout that is written. A repository of every version ever written stays in ``tests/zoo/golden``."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From the content of ``config.json`` of a version to that of the next; one for every version before the present."""

__all__ = [
    "CARD",
    "CONFIG",
    "FORMAT_VERSION",
    "MANIFEST",
    "TENSORS",
    "Repository",
    "empty",
    "open_repository",
    "restore_module",
    "verify",
    "write_repository",
]

_FIELDS = {"method": str, "dtype": str, "config": dict, "description": dict}


@dataclass(frozen=True)
class Repository:
    """An opened repository whose files have been verified.

    Parameters
    ----------
    folder
        Where it is.
    method, config, description
        Name of the model, its plain config, and what belongs to the weights (preprocessing, gene vocabulary).
    dtype
        In which type floating-point tensors are stored: ``float32``, ``float16`` ...; ``mixed``; ``none``.
    format_version
        Version of the layout it was written in.
    sha256
        Digest of ``model.safetensors``.
    """

    folder: Path
    method: str
    config: dict[str, Any]
    description: dict[str, Any]
    dtype: str
    format_version: int
    sha256: str

    def tensors(self) -> dict[str, torch.Tensor]:
        """Read every tensor.

        Raises
        ------
        WeightsError
            The file is no whole safetensors file, or of another dtype than the config says.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, torch.Tensor] = load_file(self.folder / TENSORS)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"not a readable safetensors file: {error}", where=self.folder / TENSORS) from error
        if _dtype(tensors) != self.dtype:
            raise WeightsError(
                f"the tensors are {_dtype(tensors)}, {CONFIG} says {self.dtype}", where=self.folder, todo=AGAIN
            )
        return tensors

    def assets(self) -> dict[str, bytes]:
        """Read the further files (a tokenizer, say), by name."""
        own = {CONFIG, TENSORS, CARD, MANIFEST}
        return {p.name: p.read_bytes() for p in sorted(self.folder.iterdir()) if p.name not in own}


def write_repository(
    folder: Path,
    *,
    method: str,
    config: Mapping[str, Any],
    description: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    assets: Mapping[str, bytes],
    card: str,
    overwrite: bool = False,
) -> Path:
    """Write a repository folder; it appears whole or not at all.

    Parameters
    ----------
    folder
        Where to.
    method
        Name of the model.
    config, description
        JSON values: options of the model, and what belongs to the weights.
    tensors
        Every tensor by name; tensors that share memory are stored once each.
    assets
        Small further files by name, ending in .json, .txt, .tsv or .md.
    card
        Markdown of the model card.
    overwrite
        Replace a repository that is there. Any other folder is left alone.

    Raises
    ------
    WeightsError
        An asset has a name that no repository may hold, or config or description are no JSON values.
    OutputError
        The folder exists, or can not be written.
    """
    folder = Path(folder)
    own = {name.casefold() for name in (CONFIG, TENSORS, CARD, MANIFEST)}
    for name in assets:
        if not is_allowed_name(name) or name.casefold() in own:
            raise WeightsError(f"'{name}' can not be a file of a repository", todo=f"use {', '.join(ASSET_SUFFIXES)}")
    if overwrite and folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise OutputError(f"{folder} is a folder, but not a repository of weights", todo="choose another name")
    text = _config_text(method=method, dtype=_dtype(tensors), config=config, description=description)
    with writing(folder, overwrite=overwrite) as scratch:
        scratch.mkdir()
        (scratch / CONFIG).write_text(text, encoding="utf-8")
        _save(tensors, scratch / TENSORS)
        shutil.copymode(scratch / CONFIG, scratch / TENSORS)  # safetensors makes it readable to its owner only
        (scratch / CARD).write_text(card, encoding="utf-8")
        for name, data in assets.items():
            (scratch / name).write_bytes(data)
        write_manifest(scratch)
    return folder


@contextmanager
def open_repository(folder: Path) -> Iterator[Repository]:
    """Verify a repository folder and open it.

    Raises
    ------
    WeightsError
        Whatever :func:`stzoo.core.weights.manifest.verify` finds, or a config that this stzoo does not understand.
    """
    folder = Path(folder)
    digests = verify(folder)
    content, where = read_json(folder / CONFIG), folder / CONFIG
    version = content.pop("format_version", None)
    oldest = min(MIGRATIONS, default=FORMAT_VERSION)
    if type(version) is not int or not oldest <= version <= FORMAT_VERSION:
        newer = type(version) is int and version > FORMAT_VERSION
        raise WeightsError(
            f"the repository has format version {version!r}, this stzoo reads {FORMAT_VERSION}",
            where=where,
            todo="pip install --upgrade stzoo" if newer else AGAIN,
        )
    for step in range(version, FORMAT_VERSION):
        content = MIGRATIONS[step](content)
    for key in content:
        if key not in _FIELDS:
            raise WeightsError(f"unknown key '{key}'{nearest(key, _FIELDS)}", where=where, todo=AGAIN)
    for key, kind in _FIELDS.items():
        if not isinstance(content.get(key), kind):
            raise WeightsError(f"'{key}' is missing or not a {kind.__name__}", where=where, todo=AGAIN)
    yield Repository(folder=folder, format_version=version, sha256=digests[TENSORS], **content)


def _config_text(**content: object) -> str:
    try:
        text = json.dumps({"format_version": FORMAT_VERSION, **content}, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"config or description of '{content['method']}' are not JSON: {error}",
            todo="return plain numbers, strings, lists and mappings",
        ) from error
    return text + "\n"


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(_plain(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:  # it wraps errors of the disk
        raise OutputError(f"can not write {TENSORS}: {error}", where=path.parents[2]) from error


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors that own their memory: safetensors refuses views and tied weights."""
    plain, seen = {}, set()
    for name, tensor in sorted(tensors.items()):
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        plain[name] = tensor
    return plain


def _dtype(tensors: Mapping[str, torch.Tensor]) -> str:
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    return "none" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"


def restore_module(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Give a module its tensors, strictly: same keys, same shapes, same types.

    Floating point may be stored in another width (float16 on disk, float32 in use); nothing else is converted. The
    tensors take the place of the module's own, so one that was made on the device ``meta`` (see :func:`empty`) costs
    neither the time nor the memory of weights that nobody uses.

    Raises
    ------
    WeightsError
        Naming the first key that is missing, left over or of another shape; the module is not changed then.
    """
    own = module.state_dict()
    for what, keys in (("missing", set(own) - set(state)), ("not known to the model", set(state) - set(own))):
        if keys:
            raise WeightsError(f"{len(keys)} tensors are {what}, e.g. '{min(keys)}'", todo=AGAIN)
    for key, tensor in own.items():
        given = state[key]
        same_kind = given.dtype == tensor.dtype or (given.is_floating_point() and tensor.is_floating_point())
        if given.shape != tensor.shape or not same_kind:
            raise WeightsError(
                f"tensor '{key}' is {given.dtype} {tuple(given.shape)}, expected {tensor.dtype} {tuple(tensor.shape)}",
                todo="these weights belong to another config",
            )
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, strict=True, assign=True)


@contextmanager
def empty() -> Iterator[None]:
    """Make modules without weights: for :func:`restore_module`, which must then be given every parameter and buffer.

    A module whose buffers are not saved has to make them on a device of its own choice (``device="cpu"``).
    """
    import torch

    with torch.device("meta"):
        yield
