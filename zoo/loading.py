"""``stzoo.load``: weights by name, folder or Hub address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stzoo.core.discovery.manager import Plugin, PluginManager, default_manager
from stzoo.core.errors import WeightsError
from stzoo.core.specs import ModelSpec
from stzoo.zoo.lockfile import Lock
from stzoo.zoo.resolving import Resolved, forgetting_damage, resolve


def load(
    name: str | Path, *, device: str = "cpu", manager: PluginManager | None = None, locked: bool | None = None
) -> Any:
    """Load pretrained weights.

    Parameters
    ----------
    name
        A name of ``stzoo zoo list`` (or ``dist:name``), a repository folder (also ``file://FOLDER``),
        ``package://MODULE/FOLDER`` or ``hf://owner/repo[@revision]``. A branch of the Hub is resolved to a commit once
        and written to ``stzoo.lock`` in the working directory. A CLIP, ViT or DINO checkpoint that others published
        becomes an image encoder without a fitted head.
    device
        A torch device.
    manager
        Plugins to look in; by default the installed ones.
    locked
        Refuse what is not in ``stzoo.lock``; by default whether ``STZOO_LOCKED`` is set.

    Returns
    -------
    The model (an Encoder, Imputer or Aligner), with ``provenance`` telling name, source, sha256 of the tensors and
    format version.

    Raises
    ------
    WeightsError
        Weights that are missing or damaged, not those of ``stzoo.lock``, or belong to another model: digests are
        checked before a tensor is read.
    PluginError
        No weights of that name, or the model's plugin is not installed.

    Examples
    --------
    >>> model = stzoo.load("comtip-tiny")  # doctest: +SKIP
    """
    from stzoo.core.runtime.devices import check_device

    check_device(device)
    manager = manager or default_manager()
    lock = Lock.here(strict=locked)
    resolved = resolve(name, manager=manager, lock=lock)
    with forgetting_damage(resolved):
        model = _adapt(resolved, manager, device) if resolved.foreign else _restore(resolved, manager, device)
    resolved.remember(lock)
    return model


def _restore(resolved: Resolved, manager: PluginManager, device: str) -> Any:
    from stzoo.core.registry import model_class
    from stzoo.core.weights.repository import open_repository

    with open_repository(resolved.folder) as repository:
        method = repository.method
        if resolved.spec is not None and resolved.spec.model != method:
            raise WeightsError(
                f"'{resolved.name}' is listed as weights of '{resolved.spec.model}', but they belong to '{method}'",
                where=resolved.source,
                todo="tell the authors of the plugin that lists them",
            )
        model = model_class(_qualify(method, resolved.plugin), manager=manager).from_repository(
            repository, device=device
        )
        model.provenance = {
            "name": resolved.name,
            "source": resolved.source,
            "sha256": repository.sha256,
            "format_version": repository.format_version,
        }
    return model


def _adapt(resolved: Resolved, manager: PluginManager, device: str) -> Any:
    """Return an image encoder that others published, behind our interface."""
    from stzoo.core.registry import model_class

    adapter: Any = model_class(find_adapter(manager), manager=manager)
    model = adapter.from_checkpoint(resolved.folder, source=resolved.source, device=device)
    model.provenance = {"name": resolved.name, **model.description()["checkpoint"]}
    return model


def find_adapter(manager: PluginManager) -> str:
    """Return the model that takes image encoders which others published.

    Raises
    ------
    WeightsError
        No installed plugin offers one.
    """
    names = [f"{plugin.dist}:{spec.name}" for plugin, spec in manager.specs_of(ModelSpec) if spec.adapts_checkpoints]
    if not names:
        raise WeightsError(
            "no installed model takes checkpoints that others published",
            todo="install or enable a plugin that does: 'stzoo plugins list'",
        )
    return names[0]


def _qualify(method: str, plugin: Plugin | None) -> str:
    """Prefer the model of the plugin that also offers the weights."""
    if plugin is not None and any(isinstance(r, ModelSpec) and r.name == method for r in plugin.specs):
        return f"{plugin.dist}:{method}"
    return method
