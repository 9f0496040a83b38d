"""``stzoo.evaluate``: a protocol by name, with the zoo's weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stzoo.core.evaluation.load_protocol import load_protocol, with_models
from stzoo.core.evaluation.protocol import Protocol
from stzoo.core.evaluation.run import Result, run_protocol
from stzoo.zoo.loading import load


def evaluate(
    protocol: str | Path | Protocol,
    data: str | Path,
    *,
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    work: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Result:
    """Run an evaluation protocol, its baselines included.

    Parameters
    ----------
    protocol
        A name of ``stzoo plugins info``, a YAML file, or a protocol that was loaded.
    data
        Folder that holds the sections; ``{data}`` in overrides of rows stands for it.
    models
        Models of :func:`stzoo.list_models` to score as well, with their default options.
    seeds
        Other seeds than the protocol's.
    work
        Folder in which trained models are kept, so that a stopped evaluation goes on; by default they are dropped.
    tell
        Called with a line before each row.

    Returns
    -------
    Scores of each row and part, and under which conditions they came about. A row whose optional package is not
    installed is not run, and says so.

    Raises
    ------
    ConfigError
        A protocol with an unknown key or kind, a value of the wrong type, or a list that is missing.
    PluginError
        No protocol of that name.
    DataError
        The sections are not in the folder, or can not be used.
    """
    rules = protocol if isinstance(protocol, Protocol) else load_protocol(str(protocol))
    rules = with_models(rules, models)
    rules.seeds = list(seeds) or rules.seeds
    return run_protocol(rules, Path(data), load=load, work=None if work is None else Path(work), tell=tell)
