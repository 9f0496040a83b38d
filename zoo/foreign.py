"""Folders with a checkpoint that others published: what tells them from repositories of ours, and their digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stzoo.core.runtime.digests import sha256_of
from stzoo.core.weights.manifest import CONFIG, MANIFEST, DamagedError, read_json


def is_checkpoint(folder: Path) -> bool:
    """Say whether a folder holds safetensors but is no repository of ours, not even one that lost its manifest."""
    if (folder / MANIFEST).exists() or not any(folder.glob("*.safetensors")):
        return False
    try:
        config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    except DamagedError:
        return False
    return not {"format_version", "method"} <= set(config)


def digests_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return bytes and sha256 of every file of a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            found[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return found
