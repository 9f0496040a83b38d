"""A repository of weights: a folder that is checked, byte for byte, before a tensor is read.

``config.json`` (method, its config, what belongs to the weights), ``model.safetensors``, ``README.md`` (the model
card), small assets, and ``MANIFEST.json`` (bytes and sha256 of every other file). Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo.core.errors import WeightsError
from stzoo.core.output import writing

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
CONFIG, TENSORS, CARD, MANIFEST = "config.json", "model.safetensors", "README.md", "MANIFEST.json"
ASSET_SUFFIXES = (".json", ".txt", ".tsv", ".md")

_MAX_HEADER = 25_000_000
_MAX_JSON = 50_000_000
_AGAIN = "pull or copy the weights again; if it stays so, tell whoever published them"


@dataclass(frozen=True)
class Repository:
    """An opened repository whose files have been verified.

    Parameters
    ----------
    folder
        Where it is.
    method, config, description
        Name of the model, its plain config, and what belongs to the weights (preprocessing, gene vocabulary).
    sha256
        Digest of ``model.safetensors``.
    """

    folder: Path
    method: str
    config: dict[str, Any]
    description: dict[str, Any]
    sha256: str

    def tensors(self) -> dict[str, torch.Tensor]:
        """Read every tensor."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(self.folder / TENSORS))
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"not a readable safetensors file: {error}", where=self.folder / TENSORS) from error

    def assets(self) -> dict[str, bytes]:
        """Read the further files (a tokenizer, say)."""
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

    Raises
    ------
    WeightsError
        An asset has a name that no repository may hold.
    OutputError
        The folder exists, or can not be written.
    """
    from safetensors.torch import save

    content = {"format_version": FORMAT_VERSION, "method": method, "config": config, "description": description}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    files = {
        CONFIG: (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(),
        TENSORS: save(plain, metadata={"format": "pt"}),
        CARD: card.encode(),
        **assets,
    }
    for name in assets:
        if not _allowed(name) or name in (CONFIG, TENSORS, CARD, MANIFEST):
            raise WeightsError(f"'{name}' can not be a file of a repository", todo=f"use {', '.join(ASSET_SUFFIXES)}")
    manifest = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    with writing(folder, overwrite=overwrite) as scratch:
        scratch.mkdir()
        for name, data in files.items():
            (scratch / name).write_bytes(data)
        (scratch / MANIFEST).write_text(json.dumps({"files": manifest}, indent=1) + "\n", encoding="utf-8")
    return folder


@contextmanager
def open_repository(folder: Path) -> Iterator[Repository]:
    """Verify a repository folder and open it.

    Raises
    ------
    WeightsError
        Whatever :func:`verify` finds.
    """
    digests = verify(folder)
    content = _json(folder / CONFIG)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise WeightsError(
            f"the repository has format version {version!r}, this stzoo reads {FORMAT_VERSION}",
            where=folder / CONFIG,
            todo="pip install --upgrade stzoo" if newer else _AGAIN,
        )
    unknown = set(content) - {"format_version", "method", "config", "description"}
    if unknown:
        raise WeightsError(f"unknown key '{min(unknown)}'", where=folder / CONFIG, todo=_AGAIN)
    for key, kind in (("method", str), ("config", dict), ("description", dict)):
        if not isinstance(content.get(key), kind):
            raise WeightsError(f"'{key}' is missing or not a {kind.__name__}", where=folder / CONFIG, todo=_AGAIN)
    yield Repository(folder, content["method"], content["config"], content["description"], digests[TENSORS])


def verify(folder: Path) -> dict[str, str]:
    """Check every file of a repository against its manifest; return the sha256 of each.

    Raises
    ------
    WeightsError
        A file is missing, foreign, a link, has another size or digest, or is no safetensors file.
    """
    if not folder.is_dir():
        raise WeightsError(f"no repository folder at {folder}", todo="check the path, or 'stzoo zoo list'")
    entries = _entries(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in (CONFIG, TENSORS):
        if name not in entries:
            raise WeightsError(f"the manifest has no {name}", where=folder / MANIFEST, todo=_AGAIN)
    foreign, missing = sorted(present - set(entries)), sorted(set(entries) - present)
    if foreign:
        raise WeightsError(
            f"foreign file '{foreign[0]}'", where=folder, todo="remove it: the manifest does not list it"
        )
    if missing:
        raise WeightsError(f"file '{missing[0]}' is missing", where=folder, todo=_AGAIN)
    _check_header(folder / TENSORS)
    return {name: _check_file(folder / name, entry) for name, entry in entries.items()}


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    if not (folder / MANIFEST).is_file():
        raise WeightsError(f"no {MANIFEST}, so nothing can be verified", where=folder, todo=_AGAIN)
    entries = _json(folder / MANIFEST).get("files")
    if not isinstance(entries, dict):
        raise WeightsError("the manifest lists no files", where=folder / MANIFEST, todo=_AGAIN)
    for name, entry in entries.items():
        if not (_allowed(name) or name == TENSORS):
            raise WeightsError(f"the manifest names {name!r}, which no repository may hold", where=folder / MANIFEST)
        if not (isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and _is_sha(entry.get("sha256"))):
            raise WeightsError(f"the manifest's entry of {name} is not valid", where=folder / MANIFEST, todo=_AGAIN)
    return entries


def _check_file(path: Path, entry: Mapping[str, Any]) -> str:
    if path.is_symlink() or not path.is_file():
        raise WeightsError(f"{path.name} is a link or a folder, expected a file", where=path, todo=_AGAIN)
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise WeightsError(f"{path.name} has {size} bytes, expected {entry['bytes']}", where=path, todo=_AGAIN)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry["sha256"]:
        raise WeightsError(f"{path.name} is not the file that was published (sha256 differs)", where=path, todo=_AGAIN)
    return digest


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(9)
    length = struct.unpack("<Q", head[:8])[0] if len(head) == 9 else 0
    if head[8:] != b"{" or length > min(_MAX_HEADER, path.stat().st_size):
        raise WeightsError("not a safetensors file (pickle is never opened)", where=path, todo=_AGAIN)


def _json(path: Path) -> dict[str, Any]:
    if path.is_symlink() or path.stat().st_size > _MAX_JSON:
        raise WeightsError("a link, or far too large", where=path, todo=_AGAIN)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(f"not readable as JSON: {error}", where=path, todo=_AGAIN) from error
    if not isinstance(content, dict):
        raise WeightsError("expected a JSON object", where=path, todo=_AGAIN)
    return content


def _allowed(name: object) -> bool:
    return (
        isinstance(name, str)
        and name == Path(name).name
        and "\\" not in name
        and not name.startswith(".")
        and name.endswith(ASSET_SUFFIXES)
    )


def _is_sha(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def restore_module(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, where: object = None) -> None:
    """Load tensors into a module, strictly: same keys, same shapes, floating point into floating point.

    Raises
    ------
    WeightsError
        Naming the first key that is missing, left over or of another shape; the module is not changed then.
    """
    own = module.state_dict()
    for what, keys in (("missing", set(own) - set(state)), ("not known to the model", set(state) - set(own))):
        if keys:
            raise WeightsError(f"{len(keys)} tensors are {what}, e.g. '{min(keys)}'", where=where, todo=_AGAIN)
    for key, tensor in own.items():
        given = state[key]
        if given.shape != tensor.shape or given.is_floating_point() != tensor.is_floating_point():
            raise WeightsError(
                f"tensor '{key}' is {given.dtype} {tuple(given.shape)}, expected {tensor.dtype} {tuple(tensor.shape)}",
                where=where,
                todo="these weights belong to another config",
            )
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, strict=True)
