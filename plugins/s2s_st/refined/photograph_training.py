"""Training of the refiner on photographs (ours): each crop stands for the map of a gene, sparsely measured.

A crop is shrunk up to four times, standardised, given noise, and hidden but for a sparse mask (strides 2 to 4, random
shares, with and without holes in the tissue). It is then kriged as a section would be, and the refiner is trained to
turn the kriged map into the crop. So the network sees the very kind of error that it has to correct, and learns what
natural images have and a stationary kernel lacks: edges, and regions that are uniform inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from stzoo import DataError
from stzoo.core.arrays import Doubles, Indices, Mask, Pixels
from stzoo.core.gp import Choice, Kernel, Places, Spectrum
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.refined.kriging import KrigedMaps, list_kernels, stack_channels
from stzoo.plugins.s2s_st.refined.refiner import Refiner
from torch import Tensor, nn

SIDE = 48
"""Side of a crop, places."""
SHRINK = 4.0
"""Crops are shrunk by a factor between 1 and this."""
MASKS = 24
"""Different masks; a batch shares one."""
NOISE_RANGE = (0.1, 8.0)
"""Ratio of noise to signal variance of a crop, log-uniform."""
FLAT = 0.03
"""Crops with a standard deviation below this share of the gray range are drawn again."""
TRIES = 1000
"""Attempts to draw one crop."""
DRAWN = 4
"""Batches prepared at once, from one mask."""


@dataclass(frozen=True)
class MaskedGrid:
    """A mask of known places, with the eigendecompositions shared by all crops under it.

    Parameters
    ----------
    occupied, known
        bool (SIDE, SIDE): where there is tissue, and where it is measured.
    seen, everywhere
        Places of the measured ones, and of the whole grid.
    spectra
        One for each kernel.
    """

    occupied: Mask
    known: Mask
    seen: Places
    everywhere: Places
    spectra: tuple[Spectrum, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> MaskedGrid:
        """Draw a mask."""
        occupied, known = _draw_tissue(rng), _draw_pattern(rng)
        known = known & occupied
        at = np.argwhere(np.ones((SIDE, SIDE))).astype(np.float64)
        seen = np.flatnonzero(known)
        noise = np.exp(rng.normal(0.0, 0.25, len(seen)))
        places = Places(at[seen], np.zeros(len(seen), dtype=np.intp), noise=noise)
        everywhere = Places(at, np.zeros(len(at), dtype=np.intp))
        tried = list_kernels(math.sqrt(occupied.sum() / known.sum()), float(SIDE))
        return cls(occupied, known, places, everywhere, tuple(Spectrum.of(kernel, places) for kernel in tried))

    def krige(self, y: Doubles) -> KrigedMaps:
        """Krige columns, float64 (n, c), each with its best kernel and noise."""
        likelihood = np.stack([spectrum.likelihood(y) for spectrum in self.spectra])
        best: Indices = likelihood.max(axis=1).argmax(axis=0)
        noise = likelihood[best, :, np.arange(y.shape[1])].argmax(axis=1)
        mean, explained = (np.zeros((len(self.everywhere), y.shape[1])) for _ in range(2))
        for number in np.unique(best):
            columns = np.flatnonzero(best == number)
            found = self.spectra[number].predict(self.everywhere, y[:, columns], noise[columns])
            mean[:, columns], explained[:, columns] = found
        tried: list[Kernel] = [spectrum.kernel for spectrum in self.spectra]
        return KrigedMaps(mean, explained, Choice(tried, best, noise).reliability())


class PhotographTask:
    """One step on photographs (a :class:`stzoo.core.training.TrainingTask`).

    Parameters
    ----------
    refiner
        The network to train.
    images
        Photographs.
    steps, batch, learning_rate
        Of Adam, with a cosine schedule.
    seed
        Of the masks and the crops.
    """

    def __init__(
        self, refiner: Refiner, images: NaturalImages, *, steps: int, batch: int, learning_rate: float, seed: int
    ) -> None:
        self.refiner, self.images, self.steps, self.batch, self.rate = refiner, images, steps, batch, learning_rate
        self.seed = seed
        self.masks = [MaskedGrid.draw(np.random.default_rng((seed, i))) for i in range(MASKS)]
        self.made: tuple[int, tuple[Tensor, Tensor, Tensor]] | None = None

    def module(self) -> nn.Module:
        """Return the refiner."""
        return self.refiner

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.refiner.parameters(), lr=self.rate)

    def learning_rate(self, step: int) -> float:
        """Return a short warm-up, then cosine decay."""
        return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def losses(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the squared error at hidden places, and that of the kriged map for comparison."""
        x, target, hidden = self._load_batch(step)
        start = ((x[:, 0] - target) ** 2)[:, hidden].mean()
        loss = ((x[:, 0] + self.refiner(x) - target) ** 2)[:, hidden].mean()
        return {"loss": loss, "start": start}

    def after_step(self, step: int) -> None:
        """Do nothing more."""

    def _load_batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs (b, 5, h, w), targets (b, h, w), hidden places (h, w); they depend on seed and step only."""
        group, part = divmod(step, DRAWN)
        if self.made is None or self.made[0] != group:
            rng = np.random.default_rng((self.seed, MASKS + group))
            self.made = group, make_examples(self.images, self.masks[rng.integers(MASKS)], DRAWN * self.batch, rng)
        x, target, hidden = self.made[1]
        piece = slice(part * self.batch, (part + 1) * self.batch)
        return x[piece], target[piece], hidden


def make_examples(
    images: NaturalImages, masked: MaskedGrid, count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs (count, 5, h, w), the crops (count, h, w) in the same units, and where they are hidden (h, w)."""
    truth = np.stack([_draw_crop(images, rng).ravel() for _ in range(count)], axis=1)  # (cells, count)
    known = np.flatnonzero(masked.known)
    assert masked.seen.noise is not None  # drawn with the mask
    ratio = np.exp(rng.uniform(math.log(NOISE_RANGE[0]), math.log(NOISE_RANGE[1]), count))
    y = truth[known] + rng.normal(size=(len(known), count)) * np.sqrt(ratio * masked.seen.noise[:, None])
    mean, spread = y.mean(axis=0), y.std(axis=0)
    y, truth = (y - mean) / spread, (truth - mean) / spread
    x = stack_channels(masked.krige(y), y, known, (SIDE, SIDE))
    target = torch.from_numpy(truth.T.reshape(count, SIDE, SIDE).astype(np.float32))
    return x, target, torch.from_numpy(masked.occupied & ~masked.known)


def _draw_crop(images: NaturalImages, rng: np.random.Generator) -> Doubles:
    """Return a random crop, shrunk, mirrored, turned, inverted or not, of mean 0 and standard deviation 1."""
    for _ in range(TRIES):
        image: Pixels = images.images[rng.integers(len(images.images))]
        side = int(SIDE * math.exp(rng.uniform(0, math.log(SHRINK))))
        if min(image.shape) < side:
            continue
        top, left = (int(rng.integers(n - side + 1)) for n in image.shape)
        piece = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
        crop = np.asarray(piece.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
        if crop.std() < FLAT:
            continue
        crop = np.rot90(crop, int(rng.integers(4))) * rng.choice((-1.0, 1.0))
        return np.asarray((crop - crop.mean()) / crop.std(), dtype=np.float64)
    raise DataError(
        f"{TRIES} crops of the natural images are all of one shade, or larger than their image",
        todo="give photographs that show something",
    )


def _draw_tissue(rng: np.random.Generator) -> Mask:
    """Return a tissue: half of the time the whole grid, else with holes and missing places."""
    if rng.random() < 0.5:
        return np.ones((SIDE, SIDE), dtype=bool)
    smooth = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 3.0)
    occupied: Mask = smooth > np.quantile(smooth, rng.uniform(0.05, 0.3))
    return occupied & (rng.random((SIDE, SIDE)) > rng.uniform(0, 0.1))


def _draw_pattern(rng: np.random.Generator) -> Mask:
    """Return which places would be measured: a phase of stride 2 (half of the time), 3 or 4, or a random share."""
    known = np.zeros((SIDE, SIDE), dtype=bool)
    stride = int(rng.choice((2, 2, 2, 3, 4, 0)))
    if stride == 0:
        return np.asarray(rng.random((SIDE, SIDE)) < rng.uniform(0.1, 0.4))
    known[rng.integers(stride) :: stride, rng.integers(stride) :: stride] = True
    return known
