"""``stzoo.load``: weights by name, folder or Hub address, through one resolver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stzoo.core.errors import PluginError, WeightsError
from stzoo.core.plugins import PluginHost, default_host
from stzoo.core.records import WeightsSpec

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Resolved:
    """Where weights are: the name asked for, their address, and the local folder."""

    name: str
    source: str
    folder: Path


def load(name: str | Path, *, device: str = "cpu") -> Any:
    """Load pretrained weights.

    Parameters
    ----------
    name
        A name of ``stzoo zoo list``, a repository folder (also ``file://FOLDER``), or ``hf://owner/repo@COMMIT``.
    device
        A torch device.

    Returns
    -------
    The model (an Encoder, Imputer or Aligner), with ``provenance`` telling name, source and sha256.

    Raises
    ------
    WeightsError
        Weights that are missing or damaged, or belong to another model: digests are checked before a tensor is read.
    PluginError
        No weights of that name, or the model's plugin is not installed.

    Examples
    --------
    >>> model = stzoo.load("comtip-tiny")  # doctest: +SKIP
    """
    from stzoo.core.registry import model_class
    from stzoo.core.repository import open_repository

    resolved = resolve(name)
    with open_repository(resolved.folder) as repository:
        method, sha256 = repository.method, repository.sha256
    model = model_class(method).load(resolved.folder, device=device)
    model.provenance = {"name": resolved.name, "source": resolved.source, "sha256": sha256}
    return model


def resolve(name: str | Path, *, host: PluginHost | None = None) -> Resolved:
    """Return the local folder of weights, downloading them from the Hub where they are not local yet."""
    text = str(name)
    if text.startswith("hf://"):
        return Resolved(text, text, _from_hub(text))
    if text.startswith("file://"):
        return Resolved(text, text, Path(text.removeprefix("file://")))
    if text.startswith("package://"):
        return Resolved(text, text, package_folder(text))
    if isinstance(name, Path) or Path(text).is_dir():
        return Resolved(Path(text).name, f"file://{Path(text).resolve().name}", Path(text))
    try:
        _, spec = (host or default_host()).find(WeightsSpec, text)
    except PluginError as error:
        raise PluginError(
            error.what, where=error.where, todo="see 'stzoo zoo list', or give a repository folder"
        ) from error
    return Resolved(spec.name, spec.source, resolve(spec.source).folder)


def package_folder(source: str) -> Path:
    """Return the folder of ``package://module/folder`` without importing the module's own code."""
    module, _, folder = source.removeprefix("package://").partition("/")
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f"no package '{module}'", where=source, todo="reinstall the plugin that names it")
    return Path(next(iter(found.submodule_search_locations))) / folder


def _from_hub(address: str) -> Path:
    match = _HUB.fullmatch(address)
    if match is None:
        raise WeightsError(f"'{address}' is not a Hub address", todo="write hf://owner/repo@COMMIT")
    revision = match["revision"]
    if revision is None or not _COMMIT.fullmatch(revision):
        raise WeightsError(
            f"'{address}' names no commit; a branch can change under you",
            todo=f"write hf://{match['repo']}@ and the 40 hexadecimal digits shown on the page of its files",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    page = f"https://huggingface.co/{match['repo']}"
    try:
        return _flat(Path(snapshot_download(match["repo"], revision=revision)))
    except GatedRepoError as error:
        raise WeightsError(
            "the repository is gated", where=page, todo="ask for access there, then 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            "no such repository or commit (or it is private)", where=address, todo="check the name"
        ) from error
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            "not in the local cache, and the Hub can not be reached", where=address, todo="go online once"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"the Hub answered: {str(error).splitlines()[0]}", where=address, todo="try again later"
        ) from error


def _flat(snapshot: Path) -> Path:
    """Return a folder of real files: the Hub's cache holds links, which a repository may not."""
    import shutil

    from stzoo.core.output import writing

    flat = snapshot.parent.parent / "stzoo" / snapshot.name
    if not flat.is_dir():
        with writing(flat) as scratch:
            shutil.copytree(snapshot, scratch, ignore=shutil.ignore_patterns(".gitattributes"))
    return flat
