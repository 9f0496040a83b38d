"""Sparser to sparse (ours): self-supervised training of the refiner on the section itself, by dropping measured spots.

The paper's idea, section 2.5 of the specification, with the refiner in CDCIN's place: some measured spots are dropped,
the section is kriged from the rest, and the refiner is trained to predict the dropped ones. Some spots are held out
from this training: they decide how much of the correction to apply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from stzoo import Progress
from stzoo.core.arrays import Indices, Mask
from stzoo.core.gp import Choice
from stzoo.plugins.s2s_st.refined.inputs import RefinedInputs
from stzoo.plugins.s2s_st.refined.kriging import krige, stack_channels
from stzoo.plugins.s2s_st.refined.photograph_training import PhotographTask
from stzoo.plugins.s2s_st.refined.processes import select_columns
from stzoo.plugins.s2s_st.refined.refiner import Refiner
from stzoo.plugins.s2s_st.refined.tiles import Tile
from torch import Tensor, nn

SHARES = (0.5, 0.25)
"""Shares of the measured spots that are dropped, in turn."""
DROPS = 8
"""Times that spots are dropped, over all regions together."""
REGIONS = 4
"""Tiles of the section used for training, at most, spread out over it."""
HELD_OUT = 0.2
"""Share of the measured spots held out from training."""
COLUMNS = 512
"""Columns used for training, at most: the components, and genes drawn at random."""
SIDE = 48
"""Largest side of a crop in training, places."""


@dataclass(frozen=True)
class SparserRegion:
    """A region with some of its measured spots dropped.

    Parameters
    ----------
    x
        float32 (c, 5, h, w), inputs of the refiner from the spots that are left.
    target
        float32 (c, h, w), values of the dropped spots.
    weight
        float32 (h, w), the inverse of their relative noise, 0 where none was dropped.
    """

    x: Tensor
    target: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Examination:
    """Held-out measured spots, to be predicted from the others around them.

    Parameters
    ----------
    spots
        intp (m,), indices into ``inputs.seen``.
    left
        intp (l,), the measured spots that they are predicted from, indices into ``inputs.seen``.
    x, at
        Inputs of the refiner for all components, and the places of the spots in them.
    """

    spots: Indices
    left: Indices
    x: Tensor
    at: Indices


class SparserTask:
    """One step on a section (a :class:`stzoo.core.training.TrainingTask`), and one on photographs where there are some.

    Parameters
    ----------
    refiner
        The network to train, in place.
    dropped
        From :func:`drop_spots`.
    components
        The first columns are components; a quarter of a batch is drawn from them.
    steps, batch, learning_rate
        Of Adam, with a cosine schedule.
    photographs
        Co-training on natural images: its loss is added.
    progress
        Called with (steps done, steps).
    """

    def __init__(
        self,
        refiner: Refiner,
        dropped: list[SparserRegion],
        components: int,
        *,
        steps: int,
        batch: int,
        learning_rate: float,
        photographs: PhotographTask | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.refiner, self.dropped, self.components = refiner, dropped, components
        self.steps, self.batch, self.rate = steps, batch, learning_rate
        self.photographs, self.progress = photographs, progress

    def module(self) -> nn.Module:
        """Return the refiner."""
        return self.refiner

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.refiner.parameters(), lr=self.rate)

    def learning_rate(self, step: int) -> float:
        """Return cosine decay."""
        return 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted squared error at dropped spots, in variances of the measured values."""
        one = self.dropped[step % len(self.dropped)]
        columns = self._draw_columns(len(one.x), generator)
        x, target, weight = _mirror(_crop((one.x[columns], one.target[columns], one.weight), generator), generator)
        error = (x[:, 0] + self.refiner(x) - target) ** 2
        loss = (error * weight).sum() / (weight.sum() * len(x)).clamp(min=1e-6)
        parts = {"sparser": loss}
        if self.photographs is not None:
            parts["photographs"] = self.photographs.losses(step, generator)["loss"]
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def after_step(self, step: int) -> None:
        """Report progress."""
        if self.progress:
            self.progress(step + 1, self.steps)

    def _draw_columns(self, count: int, generator: torch.Generator) -> Tensor:
        few = min(self.batch // 4, self.components)
        first = torch.randperm(max(self.components, 1), generator=generator)[:few]
        return torch.cat([first, torch.randint(count, (self.batch - few,), generator=generator)])


def choose_regions(inputs: RefinedInputs) -> list[tuple[Tile, Indices]]:
    """Choose the tiles to train on, with the measured spots in and around them."""
    found = [(tile, inputs.around(tile)) for tile in inputs.cut_tiles()]
    found = [(tile, near) for tile, near in found if len(near) >= 30]
    step = max(1, math.ceil(len(found) / REGIONS))
    return found[::step]


def choose_columns(inputs: RefinedInputs, rng: np.random.Generator) -> Indices:
    """Choose the columns to train on: components first."""
    k = inputs.n_components
    genes = k + np.flatnonzero(inputs.spread[k:] > 0)
    few = np.sort(rng.permutation(genes)[: max(COLUMNS - k, 0)])
    return np.concatenate([np.arange(k), few]).astype(np.intp)


def drop_spots(
    inputs: RefinedInputs, choice: Choice, held: Mask, columns: Indices, rng: np.random.Generator
) -> list[SparserRegion]:
    """Drop spots of each region in turn; held-out ones (bool over ``inputs.seen``) are never targets."""
    found = []
    areas = choose_regions(inputs)
    for number in range(DROPS if areas else 0):
        tile, near = areas[number % len(areas)]
        gone = rng.random(len(near)) < SHARES[(number // len(areas)) % len(SHARES)]
        if gone.all() or not (gone & ~held[near]).any():
            continue
        x = build_inputs(inputs, choice, tile, near[~gone], columns)
        taught = near[gone & ~held[near]]
        found.append(SparserRegion(x, *_build_targets(inputs, tile, taught, columns)))
    return found


def prepare_examinations(inputs: RefinedInputs, choice: Choice, held: Mask) -> list[Examination]:
    """Prepare the held-out spots of each region, to be predicted from all others around them."""
    found, components = [], np.arange(inputs.n_components)
    for tile, asked, left in split_held_out(inputs, held):
        at = tile.number(inputs.lattice.row[inputs.seen[asked]], inputs.lattice.col[inputs.seen[asked]])
        found.append(Examination(asked, left, build_inputs(inputs, choice, tile, left, components), at))
    return found


def split_held_out(inputs: RefinedInputs, held: Mask) -> Iterator[tuple[Tile, Indices, Indices]]:
    """Yield each region with its held-out spots, and the others in and around it (both into ``inputs.seen``)."""
    for tile, near in choose_regions(inputs):
        spots = inputs.seen[near]
        own = np.isin(np.arange(len(near)), tile.inside(inputs.lattice.row[spots], inputs.lattice.col[spots]))
        asked, left = near[held[near] & own], near[~held[near]]
        if len(asked) and len(left):
            yield tile, asked, left


def build_inputs(inputs: RefinedInputs, choice: Choice, tile: Tile, left: Indices, columns: Indices) -> Tensor:
    """Return the inputs of the refiner, all cells of a tile, from measured spots ``left`` (into ``inputs.seen``)."""
    y, spots = inputs.columns[np.ix_(left, columns)], inputs.seen[left]
    found = krige(select_columns(choice, columns), inputs.places.take(left), y, inputs.cells(tile))
    known = tile.number(inputs.lattice.row[spots], inputs.lattice.col[spots])
    return stack_channels(found, y, known, tile.shape)


def _build_targets(inputs: RefinedInputs, tile: Tile, taught: Indices, columns: Indices) -> tuple[Tensor, Tensor]:
    (h, w), spots = tile.shape, inputs.seen[taught]
    at = tile.number(inputs.lattice.row[spots], inputs.lattice.col[spots])
    target, weight = np.zeros((len(columns), h * w), dtype=np.float32), np.zeros(h * w, dtype=np.float32)
    assert inputs.places.noise is not None  # these inputs always have it
    target[:, at], weight[at] = inputs.columns[np.ix_(taught, columns)].T, 1 / inputs.places.noise[taught]
    return torch.from_numpy(target.reshape(-1, h, w)), torch.from_numpy(weight.reshape(h, w))


def _crop(maps: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Cut the same window of at most SIDE places a side out of all maps, (..., h, w)."""
    cut = []
    for n in maps[0].shape[-2:]:
        first = int(torch.randint(max(n - SIDE, 0) + 1, (1,), generator=generator))
        cut.append(slice(first, first + SIDE))
    return tuple(x[..., cut[0], cut[1]] for x in maps)


def _mirror(maps: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Mirror all maps, (..., h, w), alike."""
    dims = [d for d in (-2, -1) if torch.rand((), generator=generator) < 0.5]
    return tuple(torch.flip(x, dims) for x in maps) if dims else maps
