"""Every hook that a plugin may implement. This page is the whole extension surface of stzoo.

A plugin is a module named in the entry-point group ``stzoo``. It must be light to import (no torch,
no numpy work): hooks return frozen records, and the classes they point to are imported on first use.
A module may say ``STZOO_API = 1``, the version of this page that it was written for; the present version and the one
before are understood. A hook, or an argument of one, that will go says so for one version first: its specification has
``warn_on_impl=Deprecated("...")`` (or ``warn_on_impl_args``), which ``stzoo plugins list`` passes on.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy
from stzoo.core.specs import HeadSpec, ModelSpec, ProtocolSpec, ReaderSpec, TaskSpec, TrackerSpec, WeightsSpec

hookspec = pluggy.HookspecMarker("stzoo")
hookimpl = pluggy.HookimplMarker("stzoo")


class Deprecated(DeprecationWarning):
    """A part of the plugin interface that goes with its next version; says since when, and what to use instead."""


@hookspec
def stzoo_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Offer models: encoders, imputers, aligners."""


@hookspec
def stzoo_weights() -> Iterable[WeightsSpec]:  # type: ignore[empty-body]
    """Offer weights of models, packaged or on the Hub."""


@hookspec
def stzoo_readers() -> Iterable[ReaderSpec]:  # type: ignore[empty-body]
    """Offer readers of file formats; each is asked whether it recognises a path."""


@hookspec
def stzoo_heads() -> Iterable[HeadSpec]:  # type: ignore[empty-body]
    """Offer heads: what predicts expression from an embedding."""


@hookspec
def stzoo_protocols() -> Iterable[ProtocolSpec]:  # type: ignore[empty-body]
    """Offer evaluation protocols."""


@hookspec
def stzoo_tasks() -> Iterable[TaskSpec]:  # type: ignore[empty-body]
    """Offer kinds of evaluation protocols."""


@hookspec
def stzoo_trackers() -> Iterable[TrackerSpec]:  # type: ignore[empty-body]
    """Offer trackers, which are told the metrics of a training run."""
