"""Trackers: who is told of a training run beside the CSV files, which are always there. Import-light."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from stzoo.core.discovery.manager import default_manager, resolve
from stzoo.core.errors import PluginError
from stzoo.core.hookspecs import hookimpl
from stzoo.core.specs import TrackerSpec

STZOO_API = 1


class Tracker(Protocol):
    """Takes the metrics of one run. Whatever it raises costs a warning and itself, never the run."""

    def start(self, out: Path, config: Mapping[str, Any]) -> None:
        """Begin: ``out`` is the folder of the run, ``config`` its seed and options as JSON values."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take metrics after so many steps; a resumed run gives those after its checkpoint again."""

    def close(self) -> None:
        """End; also after a run that failed."""


@hookimpl
def stzoo_trackers() -> Iterable[TrackerSpec]:
    """Offer TensorBoard."""
    return [
        TrackerSpec(
            name="tensorboard",
            target="stzoo.core.training.tensorboard:TensorBoard",
            summary="event files in OUT/tensorboard, for 'tensorboard --logdir OUT'",
            requires="stzoo[tensorboard]",
        )
    ]


def require_trackers(names: Sequence[str]) -> None:
    """Refuse, before anything is read, a tracker that is not there.

    Raises
    ------
    UnknownNameError, PluginError
        As of :func:`tracking`.
    """
    for name in names:
        _make_tracker(name)


@contextmanager
def tracking(
    names: Sequence[str], out: Path, config: Mapping[str, Any]
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Yield a function that tells all trackers metrics after a step.

    Raises
    ------
    UnknownNameError
        No plugin offers one of that name.
    PluginError
        One can not be imported; the message says what to install.
    """
    running = {name: _make_tracker(name) for name in dict.fromkeys(names)}
    _tell(running, lambda tracker: tracker.start(out, config))
    try:
        yield lambda step, metrics: _tell(running, lambda tracker: tracker.log(step, metrics))
    finally:
        _tell(running, lambda tracker: tracker.close())


def _make_tracker(name: str) -> Tracker:
    spec = default_manager().find(TrackerSpec, name)[1]
    try:
        made: Tracker = resolve(spec.target)()
    except PluginError as error:
        if not spec.requires:
            raise
        raise PluginError(
            f"the tracker '{name}' needs a package that is not installed", todo=f"pip install '{spec.requires}'"
        ) from error
    return made


def _tell(running: dict[str, Tracker], what: Callable[[Tracker], None]) -> None:
    """Call every tracker; drop one that raises."""
    for name, tracker in list(running.items()):
        try:
            what(tracker)
        except Exception as error:  # noqa: BLE001 - whatever a tracker does costs only itself
            del running[name]
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"tracker '{name}' failed and is told nothing more: {reason}", stacklevel=3)
