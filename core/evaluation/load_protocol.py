"""Protocols by name or file: read, checked, and given to the kind that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from stzoo.core import config as configs
from stzoo.core.discovery.manager import default_manager, resolve
from stzoo.core.errors import ConfigError, PluginError, UsageError, nearest
from stzoo.core.evaluation.protocol import Protocol
from stzoo.core.evaluation.task import Task
from stzoo.core.runtime.resources import resource
from stzoo.core.specs import ModelSpec, ProtocolSpec, TaskSpec


def task_class(kind: str, where: object = None) -> type[Task]:
    """Return the class that runs a kind of protocol, or say which kinds plugins offer.

    Raises
    ------
    ConfigError
        No plugin offers such a kind.
    PluginError
        Two do, or what the plugin names is no :class:`Task`.
    """
    manager = default_manager()
    kinds = list(dict.fromkeys(spec.name for _, spec in manager.specs_of(TaskSpec)))
    if kind.rpartition(":")[2] not in kinds:
        raise ConfigError(
            f"'{kind}' is not a kind of protocol{nearest(kind, kinds)}", where=where, todo=f"kinds: {', '.join(kinds)}"
        )
    plugin, spec = manager.find(TaskSpec, kind)
    found = resolve(spec.target)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise PluginError(f"'{spec.target}' of plugin '{plugin.qualified}' is no kind of protocol, a stzoo.Task")
    return found


def load_protocol(name: str) -> Protocol:
    """Read a protocol by name (``stzoo plugins info``) or from a YAML file.

    Raises
    ------
    ConfigError
        An unknown key, a value of the wrong type, a list that is missing, or a section on both sides.
    PluginError
        No protocol of that name.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = resource(default_manager().find(ProtocolSpec, name)[1].resource)
    values: Mapping[str, Any] = configs.read_yaml(path)
    schema = task_class(str(values.get("kind", "expression")), where=path).schema
    protocol = configs.build(schema, values, where=path)
    for key in [f.name for f in fields(protocol)]:
        if getattr(protocol, key) == []:
            raise ConfigError(f"'{key}' is missing or empty", where=path)
    _check_rows(protocol, path)
    both = sorted(set(getattr(protocol, "train", [])) & set(getattr(protocol, "test", [])))
    if both:
        raise ConfigError(f"section '{both[0]}' is in train and in test", where=path, todo="test on unseen sections")
    return protocol


def with_models(protocol: Protocol, models: Sequence[str]) -> Protocol:
    """Return the protocol with a row for each of some models (:meth:`Protocol.row_for`), after its own rows.

    Raises
    ------
    UsageError
        The protocol has no use for such a model, or a row of that name already.
    """
    rows = list(protocol.rows)
    for name in models:
        made = protocol.row_for(name, default_manager().find(ModelSpec, name)[1].role)
        if made.name in {other.name for other in rows}:
            raise UsageError(f"'{protocol.name}' has a row '{made.name}' already", todo="leave --model out")
        rows.append(made)
    return replace(protocol, rows=rows)


def _check_rows(protocol: Protocol, path: Path) -> None:
    names = [row.name for row in protocol.rows]
    for row in protocol.rows:
        if names.count(row.name) > 1:
            raise ConfigError(f"two rows are called '{row.name}'", where=path, todo="give each row a name of its own")
        if row.weights and (row.model or row.recipe or row.overrides or row.untrained):
            raise ConfigError(
                f"row '{row.name}' has weights, and a model, recipe or overrides as well",
                where=path,
                todo="weights are used as they are: leave the others out",
            )
        if (row.untrained and not row.recipe) or ((row.recipe or row.overrides) and not row.model):
            raise ConfigError(f"row '{row.name}' needs a model and a recipe", where=path, todo="name both")
