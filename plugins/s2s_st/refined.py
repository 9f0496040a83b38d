"""The refined variant (ours): noise-aware kriging, context, and a network trained on photographs and the section.

A column's prediction is the mean of two: the first process plus what the refiner corrects, and the process with
context. A gene is put together from its own column and from the components.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from stzoo.core.gp.fitting import Choice
from stzoo.core.gp.kernels import Indices, Matrix
from stzoo.core.interfaces import Progress
from stzoo.core.section import Floats, Section
from stzoo.core.train import fit
from stzoo.plugins.s2s_st.calibration import Calibration
from stzoo.plugins.s2s_st.config import RefinedConfig
from stzoo.plugins.s2s_st.context import Context, first_choice, taken
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.photographs import PhotographTask
from stzoo.plugins.s2s_st.refiner import Refiner
from stzoo.plugins.s2s_st.scene import Scene
from stzoo.plugins.s2s_st.sparser import (
    HELD_OUT,
    Examination,
    SparserTask,
    dropped,
    examination,
    learned_columns,
    left_out,
)
from stzoo.plugins.s2s_st.start import inputs, start
from stzoo.plugins.s2s_st.tiles import Tile

OWN = 0.35
"""Share of a gene's own map in its prediction; the rest comes from the components."""
STRENGTHS = (0.5, 1.0)
"""How far the refiner may be followed; held-out measured spots choose."""
MAPS = 64
"""Maps that the refiner corrects at a time."""
GENES = 2048
"""Genes predicted at a time."""
FOLDS, CALIBRATED = 5, 1000
"""Confidence is calibrated on every measured spot, left out in one of so many parts, and at most so many genes."""
LEAST = 50
"""With fewer measured spots, or where no gene varies, nothing is learned on the section, and the confidence stays
uncalibrated."""


@dataclass
class Fitted:
    """What was learned from the measured spots of a section.

    Parameters
    ----------
    scene, first, context
        The section, and the two processes; no context where it is switched off.
    refiner, strength
        The network, and how far it is followed.
    calibration
        From trust to confidence.
    """

    scene: Scene
    first: Choice
    context: Context | None
    refiner: Refiner
    strength: float
    calibration: Calibration


def fit_refined(
    section: Section,
    values: Floats,
    config: RefinedConfig,
    refiner: Refiner,
    *,
    images: NaturalImages | None,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Fitted:
    """Learn from the measured spots of a section.

    Parameters
    ----------
    section, values
        The section, and log-normalised expression, float32 (n, g), NaN where hidden.
    config
        Options.
    refiner
        Where learning starts; it is not changed.
    images
        Photographs to learn from beside the section, or None.
    seed
        Of the spots that are dropped and held out, and of training.
    progress
        Called with (steps done, steps).
    """
    scene = Scene.of(section, values, config.components, seed=seed)
    first = first_choice(scene)
    context = Context.of(scene, first) if config.context else None
    refiner = copy.deepcopy(refiner).to(device)
    if len(scene.seen) < LEAST or not scene.spread.any():
        return Fitted(scene, first, context, refiner.eval(), 1.0, Calibration.none())
    rng = np.random.default_rng(seed)
    held = rng.random(len(scene.seen)) < HELD_OUT
    columns = learned_columns(scene, rng)
    if config.steps:
        task = SparserTask(
            refiner,
            dropped(scene, first, held, columns, rng),
            scene.n_components,
            steps=config.steps,
            batch=config.batch,
            learning_rate=config.learning_rate,
            photographs=_photographs(refiner, images, config, seed),
            progress=progress,
        )
        if task.dropped:
            with tempfile.TemporaryDirectory() as scratch:
                options = {"seed": seed, "checkpoint_every": config.steps, "progress": False}
                fit(task, out=Path(scratch), steps=config.steps, **options)  # type: ignore[arg-type]
    refiner.eval()
    asked = examination(scene, first, held, columns)
    strength = _strength(scene, refiner, asked, columns)
    return Fitted(scene, first, context, refiner, strength, _calibrated(scene, first, rng))


def fill_refined(fitted: Fitted, genes: int, *, progress: Progress | None = None) -> tuple[Floats, Floats]:
    """Predict every spot of the section that has no measured counts.

    Returns
    -------
    float32 (n, g) values and confidence; those of measured spots are to be replaced by what was measured.
    """
    scene = fitted.scene
    lattice = scene.lattice
    out, sure = (np.zeros((len(lattice.row), genes), dtype=np.float32) for _ in range(2))
    wanted = np.ones(len(lattice.row), dtype=bool)
    wanted[scene.seen] = False
    work = scene.tiles()
    for done, tile in enumerate(work):
        inside = tile.inside(lattice.row, lattice.col)
        at = inside[wanted[inside]]
        for first in range(0, genes if len(at) else 0, GENES):
            part = slice(first, min(first + GENES, genes))
            values, trust = _tile(fitted, tile, at, part)
            out[at, part], sure[at, part] = values, fitted.calibration.apply(trust)
        if progress:
            progress(done + 1, len(work))
    return out, sure


def _tile(fitted: Fitted, tile: Tile, at: Indices, part: slice) -> tuple[Matrix, Matrix]:
    """Predict some genes at spots ``at`` of a tile."""
    scene, k = fitted.scene, fitted.scene.n_components
    columns = np.concatenate([np.arange(k), k + np.arange(part.start, part.stop)]).astype(np.intp)
    near = scene.around(tile)
    if not len(near):
        nothing = np.zeros((len(at), len(columns)))
        return scene.genes_of(nothing, part, OWN), scene.trust_of(nothing, part, OWN)
    y, lattice = scene.columns[np.ix_(near, columns)], scene.lattice
    found = start(taken(fitted.first, columns), scene.places.take(near), y, scene.cells(tile))
    cells = tile.number(lattice.row[at], lattice.col[at])
    value, trust = found.mean[cells], found.trust[cells]
    if fitted.strength:
        spots = scene.seen[near]
        known = tile.number(lattice.row[spots], lattice.col[spots])
        x = inputs(found, y, known, tile.shape)
        value = value + fitted.strength * _corrections(fitted.refiner, x, cells)
    if fitted.context is not None:
        value = (value + fitted.context.start(scene, near, columns, at).mean) / 2
    return scene.genes_of(value, part, OWN), scene.trust_of(trust, part, OWN)


def _corrections(refiner: Refiner, x: torch.Tensor, cells: Indices) -> Matrix:
    """Return the corrections of all maps, (c, 5, h, w), at some cells: float64 (m, c)."""
    device = next(refiner.parameters()).device
    with torch.inference_mode():
        parts = [refiner.posed_mean(piece.to(device)).flatten(1)[:, cells].cpu() for piece in torch.split(x, MAPS)]
    return torch.cat(parts).numpy().astype(np.float64).T


def _strength(scene: Scene, refiner: Refiner, asked: list[Examination], columns: Indices) -> float:
    """Return the strength with the smallest squared error at held-out spots, in variances of the measured values."""
    errors = np.zeros(len(STRENGTHS))
    for one in asked:
        left = scene.columns[np.ix_(one.spots, columns)] - one.start.mean[:, columns]
        correction = _corrections(refiner, one.x, one.at)
        errors += [float(((left - s * correction) ** 2).sum()) for s in STRENGTHS]
    return STRENGTHS[int(errors.argmin())] if asked else 1.0


def _calibrated(scene: Scene, first: Choice, rng: np.random.Generator) -> Calibration:
    """Compare trust with the share of variance that the first process explains, every measured spot left out once.

    Of the genes, at most CALIBRATED are looked at. What the refiner and the context add is not counted.
    """
    k, everything = scene.n_components, slice(0, len(scene.means))
    varying = np.flatnonzero(scene.spread[k:] > 0)
    genes = np.sort(rng.permutation(varying)[:CALIBRATED])
    fold = rng.permutation(len(scene.seen)) % FOLDS
    trust, explained = [], []
    for number in range(FOLDS):
        for spots, found in left_out(scene, first, fold == number):
            predicted = scene.genes_of(found.mean, everything, OWN)[:, genes]
            truth = (scene.columns[spots, k:] * scene.spread[k:] + scene.means)[:, genes]
            trust.append(scene.trust_of(found.trust, everything, OWN)[:, genes])
            explained.append(1 - (truth - predicted) ** 2 / scene.spread[k:][genes] ** 2)
    return Calibration.of(trust, explained)


def _photographs(
    refiner: Refiner, images: NaturalImages | None, config: RefinedConfig, seed: int
) -> PhotographTask | None:
    if images is None:
        return None
    return PhotographTask(
        refiner, images, steps=config.steps, batch=config.batch // 2, learning_rate=config.learning_rate, seed=seed
    )
