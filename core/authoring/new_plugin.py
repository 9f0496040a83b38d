"""A complete repository for a plugin, from the packaged template."""

from __future__ import annotations

import re
from pathlib import Path

from stzoo.core.errors import PluginError, UsageError
from stzoo.core.runtime.outputs import check_output, writing
from stzoo.core.specs import API_VERSION, ROLES

_NAME = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*")


def new_plugin(name: str, role: str, folder: Path, *, author: str = "Your Name") -> Path:
    """Write a repository that installs, passes its tests and the conformance kit at once.

    Parameters
    ----------
    name
        Name of the model; the distribution is called ``stzoo-NAME``.
    role
        ``encoder``, ``imputer`` or ``aligner``.
    folder
        Where to; it must not exist.
    author
        Who holds the copyright.

    Raises
    ------
    UsageError
        A name or role that can not be.
    PluginError
        copier is not installed.
    OutputError
        The folder exists or can not be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name for a plugin", todo="use lower case letters, digits and single . _ -")
    if role not in ROLES:
        raise UsageError(f"there is no role '{role}'", todo=f"choose one of {', '.join(ROLES)}")
    check_output(folder, overwrite=False)
    try:
        from copier import run_copy
    except ImportError as error:
        raise PluginError(
            "the template needs copier, which is not installed", todo="pip install 'stzoo[new]'"
        ) from error
    from importlib.metadata import version

    answers = {"name": name, "role": role, "author": author, "stzoo": version("stzoo"), "api": API_VERSION}
    with writing(folder) as scratch:
        run_copy(str(_template()), scratch, data=answers, defaults=True, quiet=True)
    return folder


def _template() -> Path:
    """Return the template's folder; an editable install is a tree of links, and copier wants the files themselves."""
    return (Path(__file__).parent / "template" / "copier.yml").resolve().parent
