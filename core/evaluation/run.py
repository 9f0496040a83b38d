"""Run a protocol: the same data and metrics for every model and baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.errors import StzooError
from stzoo.core.evaluation.load_protocol import task_class
from stzoo.core.evaluation.models import Loader, Models
from stzoo.core.evaluation.protocol import Protocol
from stzoo.core.evaluation.task import Metrics, Task

__all__ = ["Loader", "Result", "Score", "lines", "report", "run_protocol"]


@dataclass(frozen=True)
class Score:
    """Scores of one row on one part, over seeds.

    Parameters
    ----------
    row, part, seeds
        What was scored, on which genes or section, how often.
    metrics, sd
        Mean and standard deviation over seeds of each metric (a report calls the means ``figures``). Of a p-value
        (``p_...``) the mean says nothing: there it is the largest.
    """

    row: str
    part: str
    seeds: int
    metrics: Metrics
    sd: Metrics


@dataclass(frozen=True)
class Result:
    """What a protocol found.

    Parameters
    ----------
    scores
        In the order of the rows.
    not_run
        Rows that need a package that is not installed: row -> why.
    notes, conditions
        What the data lacked, and on which data and split it ran.
    """

    scores: list[Score]
    not_run: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    conditions: str = ""


def run_protocol(
    protocol: Protocol,
    data: Path,
    *,
    load: Loader,
    work: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Result:
    """Run a protocol.

    Parameters
    ----------
    protocol
        From :func:`~stzoo.core.evaluation.load_protocol.load_protocol`.
    data
        Folder that holds the sections; ``{data}`` in overrides of rows stands for it.
    load
        How weights are found.
    work
        Folder in which trained models are kept, so that a stopped evaluation goes on; by default they are dropped.
    tell
        Called with a line before each row.

    Returns
    -------
    A :class:`Score` for each row and part. A row whose optional package is not installed is not run, and says so.
    """
    protocol = replace(protocol, rows=[row.below(data) for row in protocol.rows])
    with tempfile.TemporaryDirectory() as scratch:
        models = Models(load, work or Path(scratch))
        models.check(protocol.rows)
        task = task_class(protocol.kind)(protocol, data, models)
        scores: list[Score] = []
        not_run: dict[str, str] = {}
        for row in protocol.rows:
            seeds = protocol.seeds if task.is_random(row) else protocol.seeds[:1]
            tell(f"{row.name} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})")
            try:
                scores += _average(row.name, [task.score(row, seed) for seed in seeds])
            except StzooError as error:
                if not isinstance(error.__cause__, ImportError):
                    raise
                not_run[row.name] = f"{error.what} ({error.todo})"
                tell(f"not run: {not_run[row.name]}")
        return Result(scores, not_run, list(task.notes), task.conditions())


def _average(row: str, found: Sequence[Mapping[str, Metrics]]) -> list[Score]:
    scores = []
    for part in found[0]:
        table = {name: np.array([one[part][name] for one in found]) for name in found[0][part]}
        scores.append(
            Score(
                row=row,
                part=part,
                seeds=len(found),
                metrics={name: float(v.max() if name.startswith("p_") else v.mean()) for name, v in table.items()},
                sd={name: float(v.std(ddof=1)) if len(v) > 1 else 0.0 for name, v in table.items()},
            )
        )
    return scores


def report(protocol: Protocol, result: Result) -> dict[str, Any]:
    """Return the result as JSON values, protocol included, so that scores carry their conditions."""
    from importlib.metadata import version

    from stzoo.core.config import dump

    task: type[Task] = task_class(protocol.kind)
    return {
        "stzoo": version("stzoo"),
        "protocol": dump(protocol),
        "part": task.part,
        "columns": [list(column) for column in task.columns],
        **asdict(result),
        "scores": [{"figures" if k == "metrics" else k: v for k, v in asdict(one).items()} for one in result.scores],
        "warning": protocol.warning,
    }


def lines(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a report's table, part by part, rows that were not run at the end."""
    columns = found["columns"]
    several = any(score["seeds"] > 1 for score in found["scores"])
    head = ["", found["part"], *(title for _, title, _ in columns), *(["seeds"] if several else [])]
    body = [
        [score["row"], part, *(cell(score, name, digits) for name, _, digits in columns)]
        + ([str(score["seeds"])] if several else [])
        for part in dict.fromkeys(score["part"] for score in found["scores"])
        for score in found["scores"]
        if score["part"] == part
    ]
    return head, body


def cell(score: Mapping[str, Any], name: str, digits: int) -> str:
    """Return a score of a report as text, with its spread over seeds where that is not 0."""
    if name not in score["figures"]:
        return ""
    value, spread = score["figures"][name], score["sd"][name]
    if name.startswith("p_") and value < 0.5 * 10**-digits:
        return f"< {10**-digits:.{digits}f}"
    text = f"{value:.{digits}f}"
    return f"{text} ± {spread:.{digits}f}" if spread > 0 and digits and not name.startswith("p_") else text
