"""Which kernel attention runs on: chosen by whoever runs stzoo, never by a model. Free of torch, for the command line.

A block (:func:`attention_backend`) goes before the process (:func:`use_attention`), that before the environment
(``STZOO_ATTENTION``, which ``stzoo --attention NAME`` sets too), and that before ``auto``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, cast, get_args

from stzoo.core.errors import UsageError, nearest

VARIABLE = "STZOO_ATTENTION"
Backend = Literal["auto", "sdpa", "xformers", "chunked", "naive"]
"""What :func:`stzoo.core.nn.scaled_dot_product.attention` can run on; ``naive`` is for tests and benchmarks."""
OFFERED: tuple[Backend, ...] = ("auto", "sdpa", "xformers", "chunked")
"""What can be chosen from outside."""

_block: ContextVar[Backend | None] = ContextVar("attention_backend", default=None)
_process: Backend | None = None


def use_attention(backend: Backend | None) -> None:
    """Make a backend the one of this process, in all its threads; None leaves it to ``STZOO_ATTENTION`` again.

    Raises
    ------
    UsageError
        There is no such backend.
    """
    global _process
    _process = None if backend is None else check_backend(backend)


@contextmanager
def attention_backend(backend: Backend) -> Iterator[None]:
    """Make a backend the one of a block, in this thread."""
    token = _block.set(check_backend(backend))
    try:
        yield
    finally:
        _block.reset(token)


def get_backend() -> Backend:
    """Return what was chosen; ``auto`` where nothing was."""
    chosen = _block.get() or _process
    if chosen is not None:
        return chosen
    named = os.environ.get(VARIABLE)
    return check_backend(named, OFFERED, where=VARIABLE) if named else "auto"


def check_backend(name: str, known: Sequence[str] = get_args(Backend), *, where: str | None = None) -> Backend:
    """Return the name of a backend, or refuse it.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    if name not in known:
        todo = f"one of {', '.join(known)}"
        raise UsageError(f"no attention backend '{name}'{nearest(name, known)}", where=where, todo=todo)
    return cast("Backend", name)
