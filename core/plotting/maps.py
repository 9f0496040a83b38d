"""Pictures: the slide and maps of genes, measured and predicted side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Floats, Mask
from stzoo.core.data.section import Section
from stzoo.core.errors import UsageError
from stzoo.core.runtime.outputs import writing

Maps = Sequence[tuple[str, Floats]]
"""Columns of a picture: a title, and values (n_spots, n_genes); NaN is drawn as an empty spot."""

_SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def check_plot(path: str | Path) -> Path:
    """Refuse a picture format that can not be drawn."""
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"'{path.name}' is no picture format", todo=f"use one of {', '.join(_SUFFIXES)}")
    return path


def plot_genes(
    section: Section,
    genes: Sequence[str],
    maps: Maps,
    path: str | Path,
    *,
    notes: Sequence[str] = (),
    title: str = "",
    overwrite: bool = False,
) -> Path:
    """Draw one row a gene: the H&E image where there is one, then each map.

    Parameters
    ----------
    section
        Where the spots are.
    genes
        Names of the columns of every map.
    maps
        What to draw; all maps of a gene share their colour scale only if their units do, so each has its own bar.
    notes
        A line a gene, put beside its last map (the PCC, say).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(maps) + (section.slide is not None)
    figure = Figure(figsize=(3.3 * columns, 3.1 * len(genes) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(genes), columns, squeeze=False)
    place, size = places_of(section)
    for row, gene in enumerate(genes):
        cells = list(axes[row])
        if section.slide is not None:
            _draw_slide(cells.pop(0), section, place, "H&E" if row == 0 else "")
        for cell, (what, values) in zip(cells, maps, strict=True):
            note = f"  {notes[row]}" if notes and what == maps[-1][0] else ""
            draw_map(figure, cell, place, values[:, row], size, f"{gene}, {what}{note}")
    if title:
        figure.suptitle(title, fontsize=10)
    path = check_plot(path)
    with writing(path, overwrite=overwrite) as scratch:
        figure.savefig(scratch, dpi=110)
    return path


def plot_chosen(section: Section, chosen: Mask, path: str | Path, *, title: str = "", overwrite: bool = False) -> Path:
    """Draw all spots, those that are chosen filled.

    Parameters
    ----------
    chosen
        bool (n,).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis: Any = figure.subplots()
    known = section.slide is not None or (section.mpp is None and "spatial_um" not in section.adata.obsm)
    place = section.pixels if known else section.um
    if section.slide is not None:
        _draw_slide(axis, section, place, "")
    axis.scatter(*place[~chosen].T, s=5, facecolors="none", edgecolors="0.7", linewidths=0.4)
    axis.scatter(*place[chosen].T, s=7, color="black", linewidths=0)
    _frame(axis, place, title)
    path = check_plot(path)
    with writing(path, overwrite=overwrite) as scratch:
        figure.savefig(scratch, dpi=110)
    return path


def plot_reliability(
    curve: npt.NDArray[np.float64], path: str | Path, *, title: str = "", overwrite: bool = False
) -> Path:
    """Draw confidence against what came true, float64 (b, 3) of :func:`~stzoo.core.metrics.confidence.reliability`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis: Any = figure.subplots()
    low, high = min(0.0, float(curve[:, :2].min())), max(0.1, float(curve[:, :2].max())) * 1.05
    axis.plot([low, high], [low, high], color="0.7", linewidth=1)
    axis.plot(curve[:, 0], curve[:, 1], "o-", color="black", markersize=4, linewidth=1)
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axis.set(xlabel="confidence", ylabel="share of variance explained", title=title)
    path = check_plot(path)
    with writing(path, overwrite=overwrite) as scratch:
        figure.savefig(scratch, dpi=110)
    return path


def places_of(section: Section) -> tuple[npt.NDArray[np.float64], float]:
    """Return where spots are drawn, float64 (n, 2), and the size of their marks: on the slide, or in micrometres."""
    place = section.pixels if section.slide is not None else section.um
    extent = float(np.ptp(place, axis=0).max()) or 1.0
    pitch = extent / max(1.0, np.sqrt(len(place)))
    return place, (pitch / extent * 150) ** 2 * 0.9


def _draw_slide(axis: Any, section: Section, place: npt.NDArray[np.float64], title: str) -> None:
    slide = section.require_slide()
    image, _ = slide.thumbnail(700)
    axis.imshow(image, extent=(0, slide.width, slide.height, 0))
    _frame(axis, place, title)


def draw_map(figure: Any, axis: Any, place: npt.NDArray[np.float64], values: Any, size: float, title: str) -> None:
    """Draw a value a spot, (n,), on an axis with a colour bar; NaN is an empty spot."""
    known = np.isfinite(values)
    axis.scatter(*place[~known].T, s=size * 0.4, facecolors="none", edgecolors="0.8", linewidths=0.4)
    low, high = np.percentile(values[known], [2, 98]) if known.any() else (0.0, 1.0)
    drawn = axis.scatter(
        *place[known].T, c=values[known], s=size, cmap="magma", vmin=low, vmax=max(high, low + 1e-6), linewidths=0
    )
    figure.colorbar(drawn, ax=axis, shrink=0.75, pad=0.01).ax.tick_params(labelsize=6)
    _frame(axis, place, title)


def _frame(axis: Any, place: npt.NDArray[np.float64], title: str) -> None:
    low, high = place.min(axis=0), place.max(axis=0)
    edge = 0.04 * (high - low).max() + 1e-9
    axis.set(xlim=(low[0] - edge, high[0] + edge), ylim=(high[1] + edge, low[1] - edge), xticks=[], yticks=[])
    axis.set_aspect("equal")
    axis.set_title(title, fontsize=8)
