"""The refined variant (ours): noise-aware kriging, context, and a network trained on photographs and the section.

Three maps of a gene are stacked: its reconstruction from principal components, kriged by position and by context, and
its own map by context. The refiner's correction of the first is added, scaled by a factor fitted on held-out measured
spots.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stzoo import Filled, Progress, Ranks, Section
from stzoo.core.arrays import Doubles, Floats, Indices, Mask
from stzoo.core.metrics import Calibration
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.training import fit_short
from stzoo.plugins.s2s_st.config import RefinedConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.members import Members, learn_weights, weigh_equally
from stzoo.plugins.s2s_st.refined.photograph_training import PhotographTask
from stzoo.plugins.s2s_st.refined.processes import Context, Position, Process
from stzoo.plugins.s2s_st.refined.refiner import Refiner
from stzoo.plugins.s2s_st.refined.section_training import (
    HELD_OUT,
    SparserTask,
    build_inputs,
    choose_columns,
    drop_spots,
    prepare_examinations,
)
from stzoo.plugins.s2s_st.refined.tiles import Tile

MAPS = 64
"""Maps that the refiner corrects at a time."""
GENES = 2048
"""Genes predicted at a time."""
LEAST = 50
"""With fewer measured spots, or where no gene varies, nothing is fitted on the section: kriging by position alone, with
uncalibrated confidence."""


@dataclass
class FittedSection:
    """A model fitted on the measured spots of a section.

    Parameters
    ----------
    inputs, position
        The section, and the process over position.
    processes
        This one, and the one over context where there is one.
    weights
        float64 (members,), of the maps that they give (see :class:`~stzoo.plugins.s2s_st.refined.members.Members`).
    calibration
        From trust to confidence.
    refiner, strength
        The network, and the factor on its correction, in [0, 1].
    """

    inputs: RefinedInputs
    position: Position
    processes: Sequence[Process]
    weights: Doubles
    calibration: Calibration
    refiner: Refiner
    strength: float


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
) -> FittedSection:
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
    inputs = RefinedInputs.of(section, values, config.components, seed=seed)
    position = Position.of(inputs)
    processes: list[Process] = [position]
    refiner = copy.deepcopy(refiner).to(device)
    if len(inputs.seen) < LEAST or not inputs.spread.any():
        return FittedSection(
            inputs, position, processes, weigh_equally(processes), Calibration.none(), refiner.eval(), 1.0
        )
    if config.context and inputs.n_components:
        processes.append(Context.of(inputs))
    rng = np.random.default_rng(seed)
    held = rng.random(len(inputs.seen)) < HELD_OUT
    _learn(inputs, position, held, config, refiner, images, seed, rng, progress)
    weights, calibration = learn_weights(inputs, processes, rng)
    strength = _choose_strength(inputs, position, processes, weights, refiner.eval(), held)
    return FittedSection(inputs, position, processes, weights, calibration, refiner, strength)


def fill_refined(
    fitted: FittedSection, ranks: Ranks = ALONE, *, progress: Progress | None = None
) -> Iterator[tuple[Indices, slice, Filled]]:
    """Predict every spot of the section that has no measured counts, tile by tile and some genes at a time.

    Parameters
    ----------
    fitted
        What was learned.
    ranks
        The processes that share the tiles.
    progress
        Called with (tiles done, tiles).

    Yields
    ------
    Spots, intp (m,), genes, and their values and confidence.
    """
    inputs = fitted.inputs
    lattice, total = inputs.lattice, len(inputs.means)
    wanted = np.ones(len(lattice.row), dtype=bool)
    wanted[inputs.seen] = False
    work = inputs.cut_tiles()
    own = ranks.my_jobs(len(work))
    for done, tile in enumerate(work[own.start : own.stop], 1):
        inside = tile.inside(lattice.row, lattice.col)
        at = inside[wanted[inside]]
        near = inputs.around(tile)
        correction = _correct_components(inputs, fitted.position, fitted.refiner, tile, near, at) if len(near) else None
        for first in range(0, total if len(at) else 0, GENES):
            genes = slice(first, min(first + GENES, total))
            part = np.arange(genes.start, genes.stop)
            value = trust = np.zeros((len(at), len(part)))
            if correction is not None:
                members = Members.of(inputs, fitted.processes, near, at, part)
                value, trust = members.combine(fitted.weights)
                value = value + fitted.strength * inputs.combine_components(correction, part)
            sure = np.asarray(fitted.calibration.apply(trust), dtype=np.float32)
            yield at, genes, Filled(np.asarray(inputs.add_means(value, part), dtype=np.float32), sure)
        if progress:
            progress(done, len(own))


def _correct_components(
    inputs: RefinedInputs, position: Position, refiner: Refiner, tile: Tile, near: Indices, at: Indices
) -> Doubles:
    """Return the corrections of all components at spots ``at`` of a tile, float64 (m, k)."""
    x = build_inputs(inputs, position.choice, tile, near, np.arange(inputs.n_components))
    return _run_refiner(refiner, x, tile.number(inputs.lattice.row[at], inputs.lattice.col[at]))


def _run_refiner(refiner: Refiner, x: torch.Tensor, cells: Indices) -> Doubles:
    """Return the corrections of all maps, (c, 5, h, w), at some cells: float64 (m, c)."""
    device = next(refiner.parameters()).device
    if not len(x):
        return np.zeros((len(cells), 0))
    with torch.inference_mode():
        parts = [
            refiner.average_mirrored(piece.to(device)).flatten(1)[:, cells].cpu() for piece in torch.split(x, MAPS)
        ]
    return torch.cat(parts).numpy().astype(np.float64).T


def _learn(
    inputs: RefinedInputs,
    position: Position,
    held: Mask,
    config: RefinedConfig,
    refiner: Refiner,
    images: NaturalImages | None,
    seed: int,
    rng: np.random.Generator,
    progress: Progress | None,
) -> None:
    """Train the refiner on the section, in place."""
    if not config.steps:
        return
    task = SparserTask(
        refiner,
        drop_spots(inputs, position.choice, held, choose_columns(inputs, rng), rng),
        inputs.n_components,
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        photographs=_make_photograph_task(refiner, images, config, seed),
        progress=progress,
    )
    if task.dropped:
        fit_short(task, steps=config.steps, seed=seed)


def _choose_strength(
    inputs: RefinedInputs,
    position: Position,
    processes: Sequence[Process],
    weights: Doubles,
    refiner: Refiner,
    held: Mask,
) -> float:
    """Return the factor on the refiner's correction, in [0, 1], of least squared error at held-out spots.

    Errors are in standard deviations of each gene, of the stacked maps that the refiner adds to.
    """
    genes = np.flatnonzero(inputs.spread[inputs.n_components :] > 0)
    above = below = 0.0
    for one in prepare_examinations(inputs, position.choice, held):
        at, k = inputs.seen[one.spots], inputs.n_components
        spread = inputs.spread[k + genes]
        value, _ = Members.of(inputs, processes, one.left, at, genes).combine(weights)
        left = inputs.columns[np.ix_(one.spots, k + genes)] - value / spread
        change = inputs.combine_components(_run_refiner(refiner, one.x, one.at), genes) / spread
        above, below = above + float((left * change).sum()), below + float((change**2).sum())
    return float(np.clip(above / below, 0, 1)) if below > 0 else 0.0


def _make_photograph_task(
    refiner: Refiner, images: NaturalImages | None, config: RefinedConfig, seed: int
) -> PhotographTask | None:
    if images is None:
        return None
    return PhotographTask(
        refiner, images, steps=config.steps, batch=config.batch // 2, learning_rate=config.learning_rate, seed=seed
    )
