"""On which line of a YAML file each key stands, for messages that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stzoo.core import config as configs
from stzoo.core.errors import ConfigError, StzooError

C = TypeVar("C")
Key = tuple[object, ...]
_DEPTH = 4


@dataclass(frozen=True)
class Lines:
    """Where the keys of a YAML file stand.

    Parameters
    ----------
    path
        The file.
    numbers
        Line (from 1) of each key and list item by its path: ``("sections", 1, "source")``.
    """

    path: Path
    numbers: Mapping[Key, int] = field(default_factory=dict)

    def where(self, *key: object) -> str:
        """Return ``FILE, line N`` of a key, or of the nearest one above it that stands in the file."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.numbers:
                return f"{self.path}, line {self.numbers[key[:end]]}"
        return str(self.path)

    @contextmanager
    def blame(self, *key: object) -> Iterator[None]:
        """Let errors of the block name the line of a key, before what they name themselves."""
        try:
            yield
        except StzooError as error:
            where = self.where(*key) + (f": {error.where}" if error.where else "")
            raise type(error)(error.what, where=where, todo=error.todo) from error

    def build(self, schema: type[C], values: Mapping[str, Any], *prefix: object) -> C:
        """Make a config as :func:`stzoo.core.config.build`; what is wrong with a key names that key's line.

        Parameters
        ----------
        prefix
            Path of ``values`` in the file.
        """
        for key, value in values.items():
            configs.build(schema, {key: value}, where=self.where(*prefix, key))
        return configs.build(schema, values, where=self.where(*prefix))


def read_yaml_lines(path: Path) -> tuple[dict[str, Any], Lines]:
    """Read a YAML mapping and where its keys stand.

    Raises
    ------
    ConfigError
        As :func:`stzoo.core.config.read_yaml`; or a key stands twice (YAML itself would take the last without a word).
    """
    import yaml

    values = configs.read_yaml(path)
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    numbers: dict[Key, int] = {}
    _walk(root, (), numbers, path)
    return values, Lines(path, numbers)


def _walk(node: Any, key: Key, numbers: dict[Key, int], path: Path) -> None:
    import yaml

    if len(key) > _DEPTH:  # deeper than any key that is looked up; an alias may make a node its own child
        return
    numbers.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*key, i), numbers, path)
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            line, inner = name.start_mark.line + 1, (*key, name.value)
            if inner in numbers:
                raise ConfigError(
                    f"key '{name.value}' stands twice, on line {numbers[inner]} too",
                    where=f"{path}, line {line}",
                    todo="keep one of them",
                )
            numbers[inner] = line
            _walk(value, inner, numbers, path)
