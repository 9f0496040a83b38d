"""The picture of a fine-tuning: how it went, what stands beside it, and maps of a few genes on the test tissue."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stzoo.core.data.subsets import expression_of
from stzoo.core.finetuning.controls import HEAD, OWN, REFITTED, Line
from stzoo.core.plotting.maps import draw_map, places_of
from stzoo.core.runtime.outputs import writing

if TYPE_CHECKING:
    from stzoo.core.finetuning.plan import Plan

MAPS = 3
"""Genes that are shown."""


def plot_finetuning(found: Mapping[str, Any], plan: Plan, lines: Sequence[Line], run: Path, path: Path) -> Path:
    """Draw loss and validation of the run, a bar a line, and maps of the best-predicted of the leading genes.

    Parameters
    ----------
    found
        From :func:`stzoo.core.finetuning.report.report`.
    run
        Folder with ``log.csv`` and ``validation.csv``; where there is none, only the bars are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.4 + 2.9 * MAPS), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(2, 1, height_ratios=[3.4, 2.9 * MAPS])
    top, below = halves
    if (run / "log.csv").is_file():
        left, right = top.subplots(1, 2)
        _draw_run(left, found, run)
    else:
        right = top.subplots()
    _draw_bars(right, found)
    _draw_maps(figure, below, plan, lines, found["kept"])
    with writing(path, overwrite=True) as scratch:
        figure.savefig(scratch, dpi=110)
    return path


def _draw_run(axis: Any, found: Mapping[str, Any], run: Path) -> None:
    log, judged = _table(run / "log.csv"), _table(run / "validation.csv")
    axis.plot(log["step"] + 1, log["loss"], color="0.6", linewidth=1)
    axis.set(xlabel="step", ylabel="training loss")
    other = axis.twinx()
    other.plot(judged["step"], judged["pcc"], "o-", color="black", markersize=3, linewidth=1)
    if HEAD in found["validation"]:
        other.axhline(found["validation"][HEAD], color="black", linewidth=0.8, linestyle=":")
    other.ticklabel_format(axis="y", useOffset=False)
    other.set_ylabel("PCC on validation (dotted: head alone)")
    axis.set_title("tuning the network", fontsize=9)


def _draw_bars(axis: Any, found: Mapping[str, Any]) -> None:
    lines = found["lines"][::-1]
    colours = ["tab:red" if line["name"] == found["kept"] else "0.7" for line in lines]
    bars = axis.barh([line["name"] for line in lines], [line["pcc_mean"] for line in lines], color=colours)
    axis.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
    axis.tick_params(axis="y", labelsize=8)
    axis.margins(x=0.15)
    axis.set_xlabel(f"mean PCC, {found['genes']['scored']} genes, test spots")
    axis.set_title("red: kept (chosen on validation)", fontsize=9)


def _draw_maps(figure: Any, below: Any, plan: Plan, lines: Sequence[Line], kept: str) -> None:
    """Draw measured, before and after on the largest test piece, for leading genes that what is kept predicts best."""
    by_name = {line.name: line for line in lines}
    before = by_name.get(OWN) or by_name[REFITTED]
    sizes = [piece.n for piece in plan.split.test]
    largest = int(np.argmax(sizes))
    rows = slice(sum(sizes[:largest]), sum(sizes[: largest + 1]))
    piece = plan.split.test[largest]
    section = piece.section.take(piece.spots)
    best = np.argsort(-np.nan_to_num(by_name[kept].pcc, nan=-1.0), kind="stable")[:MAPS]
    truth = expression_of(plan.split.test, plan.scored)
    shown = [("measured", truth), (before.name, before.values), (kept, by_name[kept].values)]
    place, size = places_of(section)
    axes = below.subplots(len(best), len(shown), squeeze=False)
    for row, column in enumerate(best):
        for axis, (what, table) in zip(axes[row], shown, strict=True):
            line = by_name.get(what)
            note = "" if line is None else f"  (PCC {line.pcc[column]:.2f})"
            draw_map(figure, axis, place, table[rows, column], size, f"{plan.scored[column]}, {what}{note}")
    below.suptitle(f"{section.name}, the best-predicted of {len(plan.scored)} genes", fontsize=9)


def _table(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else ()
    return {name: np.array([float(row[name]) for row in rows]) for name in names}
