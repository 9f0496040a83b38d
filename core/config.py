"""Model options: a dataclass, validated by OmegaConf. Errors name the wrong key and the closest valid one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from stzoo.core.errors import ConfigError, nearest

C = TypeVar("C")


def build(schema: type[C], values: Mapping[str, Any] | None = None, *, where: object = None) -> C:
    """Build a config dataclass from plain values.

    Parameters
    ----------
    schema
        A dataclass type with a default for every field; fields may be nested dataclasses.
    values
        Plain, possibly nested values, as read from YAML or ``config.json``.
    where
        Where the values came from, for error messages.

    Raises
    ------
    ConfigError
        An unknown key (the closest one is named), a value of the wrong type, or a reference such as
        ``${oc.env:HOME}``: a downloaded config must not read the environment.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    values = dict(values or {})
    _refuse_references(values, "", where)
    _refuse_unknown(schema, values, "", where)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(values))
        return cast("C", OmegaConf.to_object(merged))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        key = getattr(error, "full_key", None)
        raise ConfigError(
            f"config of {schema.__name__}: {reason}", where=where, todo=f"check '{key}'" if key else None
        ) from error


def dump(config: object) -> dict[str, Any]:
    """Convert a config to plain nested values (the inverse of :func:`build`)."""
    from omegaconf import OmegaConf

    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True))


def override(values: Mapping[str, Any], dotted: list[str]) -> dict[str, Any]:
    """Apply ``key.sub=value`` overrides from the command line."""
    import yaml
    from omegaconf import OmegaConf

    _refuse_references(values, "", None)
    merged: Any = OmegaConf.create(dict(values))
    for item in dotted:
        key, equals, value = item.partition("=")
        if not (equals and key.strip()):
            raise ConfigError(f"'{item}' is not an override", todo="write key=value, e.g. train.steps=100")
        _refuse_references({key: value}, "", "command line")
        try:
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([item]))
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of '{item}' is not readable as YAML", todo="put it in quotes") from error
    return cast("dict[str, Any]", OmegaConf.to_container(merged))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; syntax errors give file, line and column."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no such file: {path}", todo="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ConfigError(f"not readable as YAML: {getattr(error, 'problem', error)}", where=line) from error
    if not isinstance(values, dict):
        raise ConfigError(f"expected a mapping of keys to values, found {type(values).__name__}", where=path)
    return values


def _refuse_references(value: Any, key: str, where: object) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_references(inner, f"{key}.{name}" if key else str(name), where)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _refuse_references(inner, f"{key}[{i}]", where)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise ConfigError(f"'{key}' is '{value}', and references are not read", where=where, todo="write the value")


def _refuse_unknown(schema: type[Any], values: Mapping[str, Any], prefix: str, where: object) -> None:
    known, types = [f.name for f in fields(schema)], get_type_hints(schema)
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"unknown key '{prefix}{key}' of {schema.__name__}{nearest(str(key), known)}",
                where=where,
                todo=f"known keys: {', '.join(known)}",
            )
        inner = types[key]
        if not (isinstance(inner, type) and is_dataclass(inner)):
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"'{prefix}{key}' is {value!r}, expected keys of {inner.__name__}",
                where=where,
                todo=f"known keys: {', '.join(f.name for f in fields(inner))}",
            )
        _refuse_unknown(inner, value, f"{prefix}{key}.", where)
