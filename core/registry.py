"""Models by name: the plugin manager finds the record, then the class is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stzoo.core.aligner import Aligner
from stzoo.core.discovery.manager import PluginManager, default_manager, resolve
from stzoo.core.encoder import Encoder
from stzoo.core.errors import PluginError
from stzoo.core.imputer import Imputer
from stzoo.core.model import Model
from stzoo.core.specs import ModelSpec

CONTRACTS: dict[str, type[Model]] = {"encoder": Encoder, "imputer": Imputer, "aligner": Aligner}
"""Base class of each role."""


def model_class(name: str, *, role: str | None = None, manager: PluginManager | None = None) -> type[Model]:
    """Return the class of a model.

    Parameters
    ----------
    name
        ``name`` or ``dist:name``.
    role
        Required role, or None for any.

    Raises
    ------
    PluginError
        No such model, the wrong role, or a class that is no subclass of its role's interface.
    """
    plugin, spec = (manager or default_manager()).find(ModelSpec, name)
    if role is not None and spec.role != role:
        raise PluginError(f"'{name}' is an {spec.role}, not an {role}", todo="see 'stzoo plugins list'")
    found = resolve(spec.target)
    if not (isinstance(found, type) and issubclass(found, CONTRACTS[spec.role])):
        raise PluginError(f"'{spec.target}' of plugin '{plugin.qualified}' is not an {spec.role}")
    return found


def model(
    name: str,
    config: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
    role: str | None = None,
) -> Any:
    """Create a model by name, without pretrained weights.

    Parameters
    ----------
    name
        ``name`` or ``dist:name``; see ``stzoo plugins list``.
    config
        Options that differ from the defaults.

    Examples
    --------
    >>> import stzoo
    >>> stzoo.model("knn", {"neighbours": 4}).name
    'knn'
    """
    return model_class(name, role=role)(config, device=device, seed=seed)


def list_models(role: str | None = None) -> list[ModelSpec]:
    """Return what installed plugins say of their models, sorted by name.

    Parameters
    ----------
    role
        ``encoder``, ``imputer`` or ``aligner``; None for all.
    """
    return [spec for _, spec in default_manager().specs_of(ModelSpec) if role in (None, spec.role)]
