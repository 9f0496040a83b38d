"""What a plugin's author writes: a name and, where the defaults do not do, how to make the model and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stzoo.core.data.section import Section
    from stzoo.core.model import Model


@dataclass(frozen=True)
class Conformance:
    """The checks of one plugin, model or reader; collected by stzoo's pytest plugin.

    Parameters
    ----------
    name
        Of a plugin (everything it offers is checked), or of one model or reader; or ``dist:name``.
    config
        Options of the model that differ from its defaults: a cheap configuration makes cheap tests.
    make
        Returns a ready model, for one that needs weights which are not packaged with it. It is called several times
        and has to return the same model each time.
    sections
        Returns two sections of the author's own, instead of synthetic ones: for an encoder the one to predict and the
        one its head is fitted on, both with slides; for an imputer a stack (``obs["measured"]`` says what is hidden);
        for an aligner the moving and the fixed one.
    """

    name: str
    config: Mapping[str, Any] | None = None
    make: Callable[[], Model] | None = None
    sections: Callable[[], Sequence[Section]] | None = None


def conformance_tests(
    name: str,
    *,
    config: Mapping[str, Any] | None = None,
    make: Callable[[], Model] | None = None,
    sections: Callable[[], Sequence[Section]] | None = None,
) -> Conformance:
    """Return every check of a plugin; bound to a name that begins with ``test``, each becomes a test of its own.

    Parameters
    ----------
    name, config, make, sections
        See :class:`Conformance`.

    Examples
    --------
    >>> test_conformance = conformance_tests("knn", config={"neighbours": 4})
    """
    return Conformance(name, config, make, sections)
