"""Files inside packages, named ``package.module/file``, and recipes and protocols by name or path."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from stzoo.core.errors import DataError, PluginError, UsageError, WeightsError, nearest
from stzoo.core.weights.manifest import MANIFEST

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
    manifest = inside / MANIFEST
    # an editable install is a tree of links: go to where the files really are
    return manifest.resolve().parent if manifest.is_symlink() else inside


def recipe(name: str, folder: str) -> Path:
    """Return a training recipe: a path to a YAML file, or the name of one in a model's folder of recipes."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"no such recipe: {path}", todo="check the path")
        return path
    known = {p.stem: p for p in sorted(resource(folder).glob("*.yaml"))} if folder else {}
    if name not in known:
        raise UsageError(
            f"no recipe '{name}'{nearest(name, known)}",
            where=f"recipes: {', '.join(known) or 'none'}",
            todo="name one, or give a YAML file",
        )
    return known[name]


def data_source(source: str, folder: Path) -> str:
    """Return a section's address (``FOLDER::NAME``) below a data folder.

    The folder may be the one that holds ``FOLDER``, or that very folder.

    Raises
    ------
    DataError
        Neither is there.
    """
    first, mark, section = source.partition("::")
    for root in (folder / first, folder if folder.resolve().name == Path(first).name else None):
        if root is not None and root.exists():
            return f"{root}{mark}{section}"
    raise DataError(f"no '{first}' in {folder}", todo="give with --data the folder that holds it")
