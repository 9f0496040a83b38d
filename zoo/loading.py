"""``stzoo.load``: weights by name, folder or Hub address, through one resolver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from stzoo.core.errors import UnknownNameError, WeightsError
from stzoo.core.manifest import MANIFEST, DamagedError
from stzoo.core.plugins import Plugin, PluginHost, default_host
from stzoo.core.records import ModelSpec, WeightsSpec


@dataclass(frozen=True)
class Resolved:
    """Where weights are.

    Parameters
    ----------
    name
        What they are called: the name of their record, or of the folder, or their Hub address.
    source
        Their address, without machine paths: ``package://...``, ``hf://...@commit`` or ``file://FOLDERNAME``.
    folder
        The local repository folder.
    plugin, spec
        The record that names them and its plugin, where there is one.
    """

    name: str
    source: str
    folder: Path
    plugin: Plugin | None = None
    spec: WeightsSpec | None = None


def load(name: str | Path, *, device: str = "cpu", host: PluginHost | None = None) -> Any:
    """Load pretrained weights.

    Parameters
    ----------
    name
        A name of ``stzoo zoo list`` (or ``dist:name``), a repository folder (also ``file://FOLDER``),
        ``package://MODULE/FOLDER`` or ``hf://owner/repo@COMMIT``.
    device
        A torch device.
    host
        Plugins to look in; by default the installed ones.

    Returns
    -------
    The model (an Encoder, Imputer or Aligner), with ``provenance`` telling name, source, sha256 of the tensors and
    format version.

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
    from stzoo.core.devices import check_device
    from stzoo.core.registry import model_class
    from stzoo.core.repository import open_repository

    check_device(device)
    host = host or default_host()
    resolved = resolve(name, host=host)
    with forgetting_damage(resolved), open_repository(resolved.folder) as repository:
        method = repository.method
        if resolved.spec is not None and resolved.spec.model != method:
            raise WeightsError(
                f"'{resolved.name}' is listed as weights of '{resolved.spec.model}', but they belong to '{method}'",
                where=resolved.source,
                todo="tell the authors of the plugin that lists them",
            )
        model = model_class(_qualified(method, resolved.plugin), host=host).from_repository(repository, device=device)
        model.provenance = {
            "name": resolved.name,
            "source": resolved.source,
            "sha256": repository.sha256,
            "format_version": repository.format_version,
        }
    return model


def resolve(name: str | Path, *, host: PluginHost | None = None) -> Resolved:
    """Return the local folder of weights, downloading them from the Hub where they are not local yet.

    A plain name is looked up among the plugins first and taken for a folder only when no plugin has it, so that
    a folder of the working directory never stands in for published weights; write ``./NAME`` for the folder.

    Raises
    ------
    WeightsError
        The weights are not there, or can not be downloaded.
    PluginError
        No plugin offers weights of that name, or two do.
    """
    text = str(name)
    if isinstance(name, Path) or "://" in text:
        source, place = _locate(text)
        return Resolved(text if source.startswith("hf://") else place.resolve().name, source, place)
    host = host or default_host()
    folder = Path(text).expanduser()
    if text and folder.is_dir() and not any(text in (s.name, f"{p.dist}:{s.name}") for p, s in host.of(WeightsSpec)):
        return Resolved(folder.resolve().name, *_locate(str(folder)))
    if "/" in text or "\\" in text:
        raise WeightsError(f"no repository folder at {text}", todo="check the path, or see 'stzoo zoo list'")
    try:
        plugin, spec = host.find(WeightsSpec, text)
    except UnknownNameError as error:
        todo = "see 'stzoo zoo list', or give a repository folder or hf://owner/repo@COMMIT"
        raise UnknownNameError(error.what, where=error.where, todo=todo) from error
    return Resolved(spec.name, *_locate(spec.source), plugin, spec)


@contextmanager
def forgetting_damage(resolved: Resolved) -> Iterator[None]:
    """Remove a damaged download from the cache of the Hub's client, so that the next try downloads it again."""
    try:
        yield
    except DamagedError as error:
        if not resolved.source.startswith("hf://"):
            raise
        from stzoo.zoo.hub import forget

        forget(resolved.folder)
        todo = "the download is removed: run again; if it stays so, tell whoever published the weights"
        raise DamagedError(error.what, where=resolved.source, todo=todo) from error


def _locate(address: str) -> tuple[str, Path]:
    """Return an address without machine paths, and the local folder."""
    scheme, _, rest = address.rpartition("://")
    if scheme == "hf":
        from stzoo.zoo.hub import fetch

        return address, fetch(address)
    if scheme == "package":
        return address, package_folder(address)
    if scheme not in ("", "file"):
        raise WeightsError(
            f"'{address}' is no address of weights", todo="use hf://, file://, package://, a folder or a name"
        )
    folder = Path(unquote(rest) if scheme else address)
    return f"file://{folder.resolve().name}", folder


def package_folder(source: str) -> Path:
    """Return the folder of ``package://module/folder`` inside an installed package.

    Only the packages above the module are imported, never the module itself.

    Raises
    ------
    WeightsError
        There is no such package, or the folder would lie outside it.
    """
    module, _, folder = source.removeprefix("package://").partition("/")
    try:
        found = find_spec(module)
    except (ImportError, ValueError) as error:
        raise WeightsError(f"no package '{module}': {error}", where=source, todo=_REINSTALL) from error
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f"no package '{module}'", where=source, todo=_REINSTALL)
    if ".." in PurePosixPath(folder).parts or PurePosixPath(folder).is_absolute() or not folder:
        raise WeightsError(f"'{folder}' is not a folder inside '{module}'", where=source)
    inside = Path(next(iter(found.submodule_search_locations))) / folder
    manifest = inside / MANIFEST
    # an editable install is a tree of links: go to where the files really are
    return manifest.resolve().parent if manifest.is_symlink() else inside


_REINSTALL = "reinstall the plugin that names it"


def _qualified(method: str, plugin: Plugin | None) -> str:
    """Prefer the model of the plugin that also offers the weights."""
    if plugin is not None and any(isinstance(r, ModelSpec) and r.name == method for r in plugin.records):
        return f"{plugin.dist}:{method}"
    return method
