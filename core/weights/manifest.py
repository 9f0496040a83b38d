"""``MANIFEST.json``: what a repository folder holds, and the check that it holds that and nothing else.

Everything here works on names, sizes and bytes. No tensor is read and nothing is unpickled; a file is opened
only after it is known to be a regular file.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stzoo.core.errors import WeightsError
from stzoo.core.runtime.digests import sha256_of

CONFIG, TENSORS, CARD, MANIFEST = "config.json", "model.safetensors", "README.md", "MANIFEST.json"
ASSET_SUFFIXES = (".json", ".txt", ".tsv", ".md")
AGAIN = "pull or copy the weights again; if it stays so, tell whoever published them"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".dill")
_OF_GIT = (".gitattributes",)  # the Hub puts it into every repository; it is never read
_MAX_HEADER = 25_000_000
_MAX_ASSET = 50_000_000


class DamagedError(WeightsError):
    """Files of a repository are missing, foreign, or not the ones that were published."""


def write_manifest(folder: Path) -> None:
    """Write the sizes and digests of all files of a folder, which become the only ones it may hold."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")


def verify(folder: Path) -> dict[str, str]:
    """Check every file of a repository against its manifest.

    Parameters
    ----------
    folder
        The repository folder, or a snapshot in the cache of the Hub's client.

    Returns
    -------
    The sha256 of each file, by name.

    Raises
    ------
    WeightsError
        There is no such folder, or it can not be read.
    DamagedError
        A file is missing, foreign, a link, pickled, of another size or digest, or no safetensors file.
    """
    folder = Path(folder)
    entries = check_layout(folder)
    try:
        digests = {name: _check_digest(folder / name, entry["sha256"]) for name, entry in entries.items()}
    except OSError as error:
        raise _unreadable(folder, error) from error
    _check_parses(folder / TENSORS)
    return digests


def check_layout(folder: Path) -> dict[str, dict[str, Any]]:
    """Check names, kinds and sizes of a repository's files, which is quick; return the entries of the manifest.

    Raises
    ------
    WeightsError, DamagedError
        As :func:`verify`, digests aside.
    """
    if not folder.is_dir():
        raise WeightsError(f"no repository folder at {folder}", todo="check the path, or see 'stzoo zoo list'")
    if not os.path.lexists(folder / MANIFEST):
        raise DamagedError(
            f"no {MANIFEST}, so this is no repository of weights, or not all of it", where=folder, todo=AGAIN
        )
    try:
        present = _plain_files(folder)
        entries = _entries(folder)
        _check_names(folder, present, entries)
        for name, entry in entries.items():
            _check_size(folder / name, entry["bytes"])
        check_header(folder / TENSORS)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return entries


def _unreadable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(f"the repository can not be read: {error.strerror}", where=error.filename or folder)


def _plain_files(folder: Path) -> set[str]:
    blobs = folder.resolve().parent.parent / "blobs"  # where the Hub's client keeps what its snapshots link to
    names = set()
    for path in sorted(folder.iterdir()):
        if path.name in _OF_GIT:
            continue
        if path.suffix.lower() in _PICKLED:
            raise DamagedError(
                f"'{path.name}' looks like a pickle, which can run code; it is never opened",
                where=folder,
                todo="remove it; weights belong in model.safetensors",
            )
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) and path.resolve().parent == blobs and path.is_file():
            mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise DamagedError(
                f"'{path.name}' is {kind}, and a repository holds plain files only",
                where=folder,
                todo="remove it, or copy the files themselves (cp -L)",
            )
        names.add(path.name)
    return names


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    where = folder / MANIFEST
    entries = read_json(where).get("files")
    if not isinstance(entries, dict):
        raise DamagedError("the manifest lists no files", where=where, todo=AGAIN)
    for name, entry in entries.items():
        if not (name == TENSORS or (name != MANIFEST and is_allowed_name(name))):
            raise DamagedError(f"the manifest names {name!r}, which no repository may hold", where=where, todo=AGAIN)
        if not (isinstance(entry, dict) and type(entry.get("bytes")) is int and _is_sha256(entry.get("sha256"))):
            raise DamagedError(f"the manifest's entry of '{name}' is not bytes and sha256", where=where, todo=AGAIN)
    return entries


def _check_names(folder: Path, present: set[str], listed: Iterable[str]) -> None:
    listed = set(listed)
    unlisted = {CONFIG, TENSORS} - listed
    if unlisted:
        raise DamagedError(f"the manifest has no '{min(unlisted)}'", where=folder / MANIFEST, todo=AGAIN)
    if len({name.casefold() for name in listed}) != len(listed):
        raise DamagedError("two files differ in case only", where=folder / MANIFEST, todo=AGAIN)
    missing, foreign = listed - present, present - listed - {MANIFEST}
    if missing:
        raise DamagedError(f"file '{min(missing)}' is missing", where=folder, todo=AGAIN)
    if foreign:
        raise DamagedError(
            f"foreign file '{min(foreign)}': the manifest does not list it", where=folder, todo="remove it"
        )


def _check_size(path: Path, expected: int) -> None:
    size = path.stat().st_size
    if size != expected:
        raise DamagedError(f"{path.name} has {size} bytes, expected {expected}", where=path, todo=AGAIN)
    if size > _MAX_ASSET and path.name != TENSORS:
        raise DamagedError(f"{path.name} has {size} bytes; {_MAX_ASSET} are allowed", where=path, todo=AGAIN)
    if path.name != TENSORS:
        with path.open("rb") as file:
            _refuse_pickle(file.read(4), path)


def _check_digest(path: Path, expected: str) -> str:
    digest = sha256_of(path)
    if digest != expected:
        raise DamagedError(f"{path.name} is not the file that was published (sha256 differs)", where=path, todo=AGAIN)
    return digest


def check_header(path: Path) -> None:
    """Refuse a file that does not start like safetensors, or whose header is larger than any honest one.

    Raises
    ------
    DamagedError
        With what it is instead.
    """
    with path.open("rb") as file:
        head = file.read(9)
    length = struct.unpack("<Q", head[:8])[0] if len(head) == 9 else 0
    if head[8:] != b"{" or 8 + length > path.stat().st_size:
        _refuse_pickle(head, path)
        raise DamagedError("not a safetensors file, or a truncated one", where=path, todo=AGAIN)
    if length > _MAX_HEADER:
        raise DamagedError(f"the header has {length} bytes; {_MAX_HEADER} are allowed", where=path, todo=AGAIN)


def _check_parses(path: Path) -> None:
    """Refuse what was published broken: names, shapes and offsets that do not fit the file. No tensor is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"not a readable safetensors file: {error}", where=path, todo=AGAIN) from error


def _refuse_pickle(head: bytes, path: Path) -> None:
    # pickle protocol 2 and later; the zip archive of torch.save. Protocols 0 and 1 look like text, and stay text.
    if head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise DamagedError(
            f"{path.name} is a pickle or an archive, which can run code; it is never opened",
            where=path,
            todo="convert it to safetensors where you trust it, and publish that",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object strictly: no double keys, no NaN, at most 50 MB.

    Raises
    ------
    DamagedError
        The file is not that.
    """
    if path.stat().st_size > _MAX_ASSET:
        raise DamagedError(f"{path.name} is far too large for JSON", where=path, todo=AGAIN)
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not readable as JSON: {error}", where=path, todo=AGAIN) from error
    if not isinstance(content, dict):
        raise DamagedError("expected a JSON object", where=path, todo=AGAIN)
    return content


def is_allowed_name(name: object) -> bool:
    """Say whether a repository may hold a file of this name, tensors aside (no folders, nothing hidden)."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name.endswith(ASSET_SUFFIXES)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key '{key}' stands twice")
        content[key] = value
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
