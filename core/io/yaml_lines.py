"""On which line of a YAML file each key stands, for messages that say so, and the user's comments in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stzoo.core import config as configs
from stzoo.core.errors import ConfigError, StzooError

C = TypeVar("C")


@dataclass(frozen=True)
class Lines:
    """Where the keys of a YAML file stand.

    Parameters
    ----------
    path
        The file.
    document
        The file as ruamel.yaml reads it: lines, comments, quotes. None for a file that is not there yet.
    """

    path: Path
    document: Any = field(default=None, repr=False, compare=False)

    def where(self, *key: object) -> str:
        """Return ``FILE, line N`` of a key, or of the nearest one above it that stands in the file."""
        node, line = self.document, 0
        if node is None:
            return str(self.path)
        line = node.lc.line
        for part in key:
            try:
                line = node.lc.item(part)[0] if isinstance(part, int) else node.lc.key(part)[0]
                node = node[part]
            except (AttributeError, KeyError, IndexError, TypeError):
                break
        return f"{self.path}, line {line + 1}"

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


def round_trip() -> Any:
    """Return ruamel.yaml as stack files are read and written: with comments and quotes as the user has them."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 1 << 16
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def read_yaml_lines(path: Path) -> tuple[dict[str, Any], Lines]:
    """Read a YAML mapping and where its keys stand.

    What the values mean is PyYAML's word, as everywhere (YAML 1.1: ``on`` is true, ``010`` is 8); ruamel.yaml is asked
    for lines and comments only.

    Raises
    ------
    ConfigError
        As :func:`stzoo.core.config.read_yaml`; or a key stands twice (YAML itself would take the last without a word).
    """
    from ruamel.yaml.constructor import RoundTripConstructor
    from ruamel.yaml.error import YAMLError

    class Once(RoundTripConstructor):
        def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
            if key in mapping:
                raise ConfigError(
                    f"key '{key}' stands twice, on line {mapping.lc.key(key)[0] + 1} too",
                    where=f"{path}, line {key_node.start_mark.line + 1}",
                    todo="keep one of them",
                )
            return True

    values, yaml = configs.read_yaml(path), round_trip()
    yaml.Constructor = Once
    try:
        return values, Lines(path, yaml.load(path.read_text(encoding="utf-8")))
    except YAMLError:  # what PyYAML reads and ruamel.yaml does not: read, without lines
        return values, Lines(path)
