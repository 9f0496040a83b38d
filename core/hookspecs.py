"""All hooks that a plugin can implement: the complete extension interface of stzoo.

A plugin is a module listed in the entry-point group ``stzoo``. It must import quickly (no torch, no numpy work): hooks
return frozen records, and the classes these name are imported on first use. A module can set ``STZOO_API = 1``, the
interface version that it was written for; the current and the previous version are supported. A hook or argument that
will be removed is deprecated for one version: its specification has ``warn_on_impl=Deprecated("...")`` (or
``warn_on_impl_args``), and ``stzoo plugins list`` shows the warning.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy
from stzoo.core.specs import HeadSpec, ModelSpec, ProtocolSpec, ReaderSpec, TaskSpec, TrackerSpec, WeightsSpec

hookspec = pluggy.HookspecMarker("stzoo")
hookimpl = pluggy.HookimplMarker("stzoo")


class Deprecated(DeprecationWarning):
    """Part of the plugin interface that the next version removes; says since when, and what to use instead."""


@hookspec
def stzoo_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Provide models: encoders, imputers, aligners."""


@hookspec
def stzoo_weights() -> Iterable[WeightsSpec]:  # type: ignore[empty-body]
    """Provide model weights, packaged or on the Hugging Face Hub."""


@hookspec
def stzoo_readers() -> Iterable[ReaderSpec]:  # type: ignore[empty-body]
    """Provide readers of file formats; each is asked whether it recognises a path."""


@hookspec
def stzoo_heads() -> Iterable[HeadSpec]:  # type: ignore[empty-body]
    """Provide heads, which predict expression from an embedding."""


@hookspec
def stzoo_protocols() -> Iterable[ProtocolSpec]:  # type: ignore[empty-body]
    """Provide evaluation protocols."""


@hookspec
def stzoo_tasks() -> Iterable[TaskSpec]:  # type: ignore[empty-body]
    """Provide kinds of evaluation protocols."""


@hookspec
def stzoo_trackers() -> Iterable[TrackerSpec]:  # type: ignore[empty-body]
    """Provide trackers, which receive the metrics of a training run."""
