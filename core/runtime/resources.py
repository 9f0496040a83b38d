"""Files and folders inside installed packages, named ``package.module/file`` and ``package://module/folder``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from stzoo.core.errors import PluginError, WeightsError

REINSTALL = "reinstall the plugin that names it"


def resource(name: str) -> Path:
    """Return the path of ``package.module/file`` without running the module's code.

    Raises
    ------
    PluginError
        The package or the file is not there.
    """
    module, _, rest = name.partition("/")
    found = find_spec(module)
    folders = list(found.submodule_search_locations or []) if found else []
    path = Path(folders[0]) / rest if folders else None
    if path is None or not path.exists():
        raise PluginError(f"no file '{name}' in the installed packages", todo=REINSTALL)
    return path


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
        raise WeightsError(f"no package '{module}': {error}", where=source, todo=REINSTALL) from error
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f"no package '{module}'", where=source, todo=REINSTALL)
    if ".." in PurePosixPath(folder).parts or PurePosixPath(folder).is_absolute() or not folder:
        raise WeightsError(f"'{folder}' is not a folder inside '{module}'", where=source)
    inside = Path(next(iter(found.submodule_search_locations))) / folder
    # an editable install is a tree of links: go to where the files really are
    links = (path for path in sorted(inside.iterdir()) if path.is_symlink()) if inside.is_dir() else ()
    linked = next(iter(links), None)
    return inside if linked is None else linked.resolve().parent
