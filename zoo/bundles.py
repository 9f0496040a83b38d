"""Weights in one file, for machines without a network: ``stzoo zoo export`` and ``import``.

A bundle is a plain tar: ``bundle.json`` (name, source, bytes and sha256 of every file), then the files. It is the same,
byte for byte, whoever makes it. Nothing in it is believed: names, kinds and sizes are checked while it is read, and the
files as any other weights are before they are put in their place.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo.core.errors import UsageError, WeightsError
from stzoo.core.runtime.outputs import check_output, writing
from stzoo.core.weights.manifest import MANIFEST, DamagedError
from stzoo.zoo.foreign import digests_of, is_checkpoint
from stzoo.zoo.resolving import Resolved

CONTENTS = "bundle.json"
FORMAT = 1
_MAX_CONTENTS = 1_000_000
_AGAIN = "make it again with 'stzoo zoo export', and copy it again"


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says.

    Parameters
    ----------
    name, source
        What the weights are called, and where they come from.
    files
        Bytes and sha256 of every file.
    """

    name: str
    source: str
    files: dict[str, dict[str, Any]]


def write_bundle(resolved: Resolved, out: Path, *, overwrite: bool = False) -> Path:
    """Write verified weights into one file, which appears whole or not at all.

    Raises
    ------
    WeightsError
        The weights are damaged.
    OutputError
        The file exists or can not be written.
    """
    check_output(out, overwrite=overwrite)
    _verify(resolved.folder)
    files = digests_of(resolved.folder)
    listed = resolved.files().keys() | {MANIFEST}
    files = {name: entry for name, entry in files.items() if name in listed}
    contents = {"format": FORMAT, "name": resolved.name, "source": resolved.source, "files": files}
    data = (json.dumps(contents, indent=1, ensure_ascii=False) + "\n").encode()
    with writing(out, overwrite=overwrite) as scratch, tarfile.open(scratch, "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(_member(CONTENTS, len(data)), io.BytesIO(data))
        for name, entry in files.items():
            with (resolved.folder / name).open("rb") as file:
                tar.addfile(_member(name, entry["bytes"]), file)
    return out


def read_bundle(path: Path, out: Path | None = None, *, overwrite: bool = False) -> tuple[Bundle, Path]:
    """Unpack a bundle and verify it.

    Parameters
    ----------
    out
        Folder to make. None: into the cache of the Hub's client, as if the commit had been downloaded, which only
        works for weights that come from the Hub.

    Returns
    -------
    What the bundle says, and the folder.

    Raises
    ------
    UsageError
        No folder was named for weights that do not come from the Hub.
    WeightsError
        The file is no bundle, or damaged; nothing is left then.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            bundle = _contents(tar, path)
            place = _place(bundle) if out is None else out
            if out is None and place.exists():
                shutil.rmtree(place)  # a download that was cut; a whole one is replaced by the same bytes
            with writing(place, overwrite=overwrite) as scratch:
                scratch.mkdir()
                _unpack(tar, bundle, scratch, path)
                _check(scratch, bundle, path)
    except FileNotFoundError as error:
        raise WeightsError(f"no file at {path}", todo="check the path") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DamagedError(f"not a readable bundle: {error}", where=path, todo=_AGAIN) from error
    return bundle, place


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)  # no owner, no time: the same weights give the same bundle
    info.size, info.mode = size, 0o644
    return info


def _contents(tar: tarfile.TarFile, path: Path) -> Bundle:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.isreg() and first.name == CONTENTS else None
    if first is None or file is None or first.size > _MAX_CONTENTS:
        raise DamagedError(f"no bundle of weights: it does not begin with {CONTENTS}", where=path, todo=_AGAIN)
    try:
        content = json.loads(file.read())
        version, name, source, files = (content[key] for key in ("format", "name", "source", "files"))
        entries = {str(key): {"bytes": int(e["bytes"]), "sha256": str(e["sha256"])} for key, e in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{CONTENTS} is not what a bundle says", where=path, todo=_AGAIN) from error
    if version != FORMAT:
        raise WeightsError(f"a bundle of format {version}, this stzoo reads {FORMAT}", where=path, todo=_AGAIN)
    for key in entries:
        if key in ("", ".", "..") or "/" in key or "\\" in key or key.startswith("."):
            raise DamagedError(f"the bundle names {key!r}, which no repository may hold", where=path, todo=_AGAIN)
    return Bundle(str(name), str(source), entries)


def _place(bundle: Bundle) -> Path:
    """Return where the Hub's client would keep these weights."""
    if not bundle.source.startswith("hf://"):
        raise UsageError(f"'{bundle.name}' does not come from the Hub", todo="say where to unpack it: --out FOLDER")
    from stzoo.zoo.hub import parse_address, snapshot_folder

    return snapshot_folder(parse_address(bundle.source))


def _unpack(tar: tarfile.TarFile, bundle: Bundle, folder: Path, path: Path) -> None:
    """Copy exactly the files that are listed; a tar's own idea of where they belong is never followed."""
    while (member := tar.next()) is not None:
        entry = bundle.files.get(member.name)
        file = tar.extractfile(member) if member.isreg() else None
        if entry is None or file is None or member.size != entry["bytes"] or (folder / member.name).exists():
            raise DamagedError(f"'{member.name}' is not what {CONTENTS} lists", where=path, todo=_AGAIN)
        with (folder / member.name).open("xb") as target:
            shutil.copyfileobj(file, target, 1 << 20)


def _check(folder: Path, bundle: Bundle, path: Path) -> None:
    found: Mapping[str, Any] = digests_of(folder)
    differing = sorted(name for name in {*found, *bundle.files} if found.get(name) != bundle.files.get(name))
    if differing:
        raise DamagedError(f"'{differing[0]}' is missing or was changed", where=path, todo=_AGAIN)
    _verify(folder)


def _verify(folder: Path) -> None:
    """Check a repository against its manifest; a checkpoint of others has none, its digests are in the bundle."""
    if not is_checkpoint(folder):
        from stzoo.core.weights.repository import verify

        verify(folder)
