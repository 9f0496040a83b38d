"""``stzoo.yaml``: which plugins the work in a folder needs, and which it does without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stzoo.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PROJECT = "stzoo.yaml"
_VERSION = 1
_HEAD = "# Plugins of the work in this folder; keep it under version control, beside stzoo.lock.\n"


@dataclass
class Project:
    """Keys of the file.

    Parameters
    ----------
    version
        Version of the file's format.
    required_plugins
        Distributions, as pip takes them: ``stzoo-median>=0.2``.
    disabled_plugins
        Plugins (``name`` or ``dist:name``) that are not loaded here.
    """

    version: int = _VERSION
    required_plugins: list[str] = field(default_factory=list)
    disabled_plugins: list[str] = field(default_factory=list)


def read_project(folder: Path) -> Project:
    """Return what the project file of a folder says; an empty project where there is none.

    Raises
    ------
    ConfigError
        An unknown key, another version, or a requirement that pip could not read.
    """
    path = folder / PROJECT
    if not path.is_file():
        return Project()
    from stzoo.core import config as configs

    project = configs.build(Project, configs.read_yaml(path), where=path)
    if project.version != _VERSION:
        raise ConfigError(
            f"version is {project.version}, this stzoo reads {_VERSION}", where=path, todo="pip install --upgrade stzoo"
        )
    for text in project.required_plugins:
        _requirement(text, path)
    return project


def unmet(requirements: Sequence[str]) -> list[str]:
    """Return a sentence for each requirement that the environment does not meet."""
    from importlib.metadata import PackageNotFoundError, version

    problems = []
    for text in requirements:
        requirement = _requirement(text, PROJECT)
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            problems.append(f"'{text}' is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            problems.append(f"'{text}' is wanted, {requirement.name} {found} is installed")
    return problems


def set_disabled(folder: Path, name: str, *, disabled: bool) -> Path:
    """Add a plugin to ``disabled_plugins`` of a folder's project file, or take it away; return the file.

    Raises
    ------
    UsageError
        It is disabled (enabled) already.
    """
    import yaml
    from stzoo.core import config as configs
    from stzoo.core.runtime.outputs import writing

    project, path = read_project(folder), folder / PROJECT
    if (name in project.disabled_plugins) == disabled:
        raise UsageError(f"'{name}' is {'disabled' if disabled else 'not disabled'} in {PROJECT} already")
    others = [other for other in project.disabled_plugins if other != name]
    project = replace(project, disabled_plugins=sorted([*others, name]) if disabled else others)
    text = _HEAD + yaml.safe_dump(configs.dump(project), sort_keys=False, allow_unicode=True)
    with writing(path, overwrite=True) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return path


def _requirement(text: str, where: object) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError(
            f"required_plugins: '{text}' is no requirement", where=where, todo="write it as for pip: stzoo-median>=0.2"
        ) from error
