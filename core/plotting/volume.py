"""A static picture of a volume: sections drawn apart, one gene a row, measured beside filled beside confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stzoo.core.arrays import Doubles
from stzoo.core.data.section import Section
from stzoo.core.io.volume import COMMON, Volume, is_interpolated
from stzoo.core.plotting.maps import check_plot
from stzoo.core.runtime.outputs import writing

_SHEAR, _FLAT = 0.35, 0.42
_APART, _TALLEST = 1.12, 7.0
"""Sections are drawn so far apart (in drawn heights of one), and no stack higher than so many."""

_MEASURED, _IMPUTED = 0.95, 0.6
"""Diameter of a drawn spot, in pitches."""


def plot_volume(volume: Volume, genes: Sequence[str], path: str | Path, *, overwrite: bool = False) -> Path:
    """Draw the sections of a volume one above the other, seen at an angle.

    Each gene has a row of three: what was measured (empty rings are spots that were not), the filled stack on the same
    colours (large spots were measured, small ones imputed), and the confidence. Frames of planes that were interpolated
    between sections are dashed. Planes are drawn apart; their distance is not to scale.

    Parameters
    ----------
    genes
        Genes of the volume, one row each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scene = _Scene(volume)
    low, high = scene.limits
    width = 3.9
    height = width * (high[1] - low[1]) / (high[0] - low[0])
    figure = Figure(figsize=(3 * width + 1.6, len(genes) * (height + 0.3) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(genes), 3, squeeze=False)
    for gene, row in zip(genes, axes, strict=True):
        _draw_gene(figure, row, scene, gene)
    model = volume.stack.sections[volume.central].adata.uns.get("stzoo", {}).get("imputed", {}).get("model", "")
    figure.suptitle(f"{volume.sample}: {model or 'imputed'}, log1p of counts per 10,000", fontsize=11)
    figure.supxlabel("planes are drawn apart: depth is not to scale", fontsize=7, color="0.4")
    path = check_plot(path)
    with writing(path, overwrite=overwrite) as scratch:
        figure.savefig(scratch, dpi=110)
    return path


class _Scene:
    """Where the spots of each plane are drawn."""

    def __init__(self, volume: Volume) -> None:
        self.sections, self.z = volume.stack.sections, volume.stack.z_um
        places = [section.adata.obsm[COMMON] for section in self.sections]
        every = np.concatenate(places)
        self.low, self.size = every.min(axis=0), np.ptp(every, axis=0)
        height = _FLAT * self.size[1]
        self.step = height * min(_APART, _TALLEST / max(1, len(places) - 1))
        self.drawn = [self.place(points, number) for number, points in enumerate(places)]
        self.pitch = volume.stack.sections[volume.central].pitch_um or float(self.size.max()) / 20
        edge = 0.05 * self.size.max()
        corners = np.concatenate([self.corners(number) for number in range(len(places))])
        self.limits = corners.min(axis=0) - [0.24 * self.size[0], edge], corners.max(axis=0) + edge

    def place(self, points: Doubles, number: int) -> Doubles:
        """Return drawn places of points (µm) of a plane, float64 (n, 2), y upwards."""
        x, y = (points - self.low).T
        up = self.size[1] - y  # y of a slide goes down
        return np.column_stack([x + _SHEAR * up, _FLAT * up - self.step * number])

    def corners(self, number: int) -> Doubles:
        """Return the drawn frame of a plane, float64 (4, 2)."""
        edge = 0.03 * self.size.max()
        (x0, y0), (x1, y1) = self.low - edge, self.low + self.size + edge
        return self.place(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), number)


def _draw_gene(figure: Any, axes: Any, scene: _Scene, gene: str) -> None:
    values, trust = (
        [np.asarray(s.adata.layers[key][:, s.gene_index([gene])[0]], dtype=np.float64) for s in scene.sections]
        for key in ("imputed", "confidence")
    )
    low, high = np.percentile(np.concatenate(values), [2, 98])
    limits = float(low), max(float(high), float(low) + 1e-6)
    seen = [np.where(s.measured, v, np.nan) for s, v in zip(scene.sections, values, strict=True)]
    _draw(axes[0], scene, seen, "magma", limits, f"{gene}, measured")
    drawn = _draw(axes[1], scene, values, "magma", limits, f"{gene}, filled (large: measured)", small=True)
    figure.colorbar(drawn, ax=list(axes[:2]), shrink=0.6, pad=0.01).ax.tick_params(labelsize=7)
    sure = _draw(axes[2], scene, trust, "viridis", (0.0, 1.0), f"{gene}, confidence (1: measured)")
    figure.colorbar(sure, ax=axes[2], shrink=0.6, pad=0.01).ax.tick_params(labelsize=7)


def _draw(
    axis: Any,
    scene: _Scene,
    values: Sequence[Doubles],
    colours: str,
    limits: tuple[float, float],
    title: str,
    *,
    small: bool = False,
) -> Any:
    """Draw one stack, the deepest plane first; return what a colour bar is made of."""
    from matplotlib.patches import Polygon

    drawn = None
    for number in reversed(range(len(values))):
        section, between = scene.sections[number], is_interpolated(scene.sections[number])
        frame = {"linestyle": "--" if between else "-", "edgecolor": "0.55", "linewidth": 0.7}
        corners = scene.corners(number)
        axis.add_patch(Polygon(corners, closed=True, facecolor="none", **frame))
        known = np.isfinite(values[number])
        if not between:
            ring = {"facecolors": "none", "edgecolors": "0.75", "linewidths": 0.4}
            _spots(axis, scene, scene.drawn[number][~known], _IMPUTED, **ring)
        wide = np.where(section.measured[known] | (not small), _MEASURED, _IMPUTED)
        style = {"cmap": colours, "clim": limits, "linewidths": 0}
        drawn = _spots(axis, scene, scene.drawn[number][known], wide, array=values[number][known], **style)
        axis.text(*corners[3], f"{_label(section, scene.z[number])}  ", ha="right", va="bottom", fontsize=6.5)
    (x0, y0), (x1, y1) = scene.limits
    axis.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal")
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
    return drawn


def _spots(axis: Any, scene: _Scene, places: Doubles, size: Any, **style: Any) -> Any:
    """Draw spots as the discs they are, seen at an angle; their size in pitches."""
    from matplotlib.collections import EllipseCollection

    wide = np.broadcast_to(size, len(places)) * scene.pitch
    spots = EllipseCollection(
        wide, wide * _FLAT, np.zeros(len(places)), units="xy", offsets=places,
        offset_transform=axis.transData, **style,
    )  # fmt: skip
    return axis.add_collection(spots)


def _label(section: Section, z: float) -> str:
    if is_interpolated(section):
        return f"interpolated\n{z:g} µm"
    return f"{section.name}, {section.measured.mean():.0%} measured\n{z:g} µm"
