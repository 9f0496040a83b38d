"""A picture of an alignment: the moving section upon the fixed one, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Points
from stzoo.core.data.section import Section
from stzoo.core.data.tissue import Tissue, in_tissue, overview, slide_tissue, spot_tissue
from stzoo.core.geometry.transform import Transform
from stzoo.core.plotting.maps import check_plot
from stzoo.core.runtime.outputs import writing

_FIXED, _MOVING = "0.45", "#d1495b"


def plot_alignment(
    moving: Section, fixed: Section, transform: Transform, path: str | Path, *, title: str = "", overwrite: bool = False
) -> Path:
    """Draw outlines and spots of both sections in the frame of the fixed one; left as they were, right aligned.

    Outlines are those of the tissue on the slides where both sections have one, else of the area around the spots. On
    the left the centres of the two tissues lie upon each other, since the frames need not have anything in common.

    Parameters
    ----------
    transform
        From micrometres of ``moving`` to micrometres of ``fixed``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    slides = moving.slide is not None and fixed.slide is not None
    here, there = (slide_tissue(s, overview(s)) if slides else spot_tissue(s) for s in (moving, fixed))
    shift = there.points().mean(axis=0) - here.points().mean(axis=0)
    before = Transform(np.column_stack([np.eye(2), shift]))
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, how, what in zip(axes, (before, transform), ("before (centres matched)", "after"), strict=True):
        _draw(axis, there, fixed, Transform.identity(), _FIXED, f"{fixed.name} (fixed)")
        _draw(axis, here, moving, how, _MOVING, f"{moving.name} (moving)")
        axis.set_title(what, fontsize=9)
        axis.set_aspect("equal")
        axis.set_xlabel("µm", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("µm", fontsize=8)
    axes[0].invert_yaxis()  # as on the slide; the axes are shared
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    path = check_plot(path)
    with writing(path, overwrite=overwrite) as scratch:
        figure.savefig(scratch, dpi=110)
    return path


def _draw(axis: Any, tissue: Tissue, section: Section, how: Transform, colour: str, label: str) -> None:
    for number, ring in enumerate(_rings(tissue)):
        closed = how.apply(ring)
        axis.plot(*closed.T, color=colour, linewidth=1.3, label=label if number == 0 else None)
    spots = how.apply(section.um[in_tissue(section)])
    axis.scatter(*spots.T, s=min(9.0, 4000 / max(1, len(spots))), color=colour, alpha=0.55, linewidths=0)


def _rings(tissue: Tissue) -> list[Points]:
    """Return the outlines of the tissue as closed rings, float64 (n, 2) each, micrometres; the longest first."""
    from skimage.measure import find_contours

    contours: Any = find_contours
    rings = [tissue.to_um(ring[:, ::-1] - 1) for ring in contours(np.pad(tissue.mask, 1).astype(np.float64), 0.5)]
    return sorted(rings, key=len, reverse=True)
