"""One-file plugins: a method that is not packaged yet, named on the command line (``--plugin my_method.py``)."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from stzoo.core.errors import PluginError, UsageError

FILES_VARIABLE = "STZOO_PLUGIN_FILES"
"""Files that every process of a run loads, separated as in ``PATH``."""

DIST = "file"
"""What stands for the distribution of such a plugin: ``file:my_method``."""


def plugin_files() -> list[Path]:
    """Return the files that the environment names."""
    return [Path(name) for name in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if name]


def use_plugin_file(name: str) -> None:
    """Have this process, and those it starts, load a file as a plugin.

    Raises
    ------
    UsageError
        There is no such file, or its name can not be imported.
    """
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"--plugin: no file {path}", todo="give a Python file that holds hooks of stzoo")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(f"--plugin: '{path.name}' can not be imported", todo="name it like a module: my_method.py")
    files = [*plugin_files(), path.resolve()]
    os.environ[FILES_VARIABLE] = os.pathsep.join(dict.fromkeys(str(file) for file in files))


def import_file(path: Path) -> ModuleType:
    """Import a file under its own name, so that targets (``my_method:Class``) and pickles find it.

    Its folder goes to the end of ``sys.path``: nothing that is installed is hidden by a neighbour of the file.

    Raises
    ------
    PluginError
        Another module has that name.
    """
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = import_module(path.stem)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path.resolve():
        raise PluginError(
            f"the name '{path.stem}' belongs to another module ({found or 'built in'})", todo="rename the file"
        )
    return module
