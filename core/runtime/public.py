"""Names that a package offers from its modules, imported on first use: the package stays instant to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def offer(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package.

    Parameters
    ----------
    package
        Its ``__name__``.
    homes
        Module of the package by name. No name may be that of a module: importing the module would hide it.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find
