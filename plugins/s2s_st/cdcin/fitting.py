"""Train a CDCIN on the maps of one section, and fill them with it. Grids in, grids out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from stzoo import ConfigError, Progress
from stzoo.core.arrays import Floats, Mask
from stzoo.core.runtime.seeding import use_seed
from stzoo.core.training import fit_short
from stzoo.plugins.s2s_st.cdcin.canvas import Canvas
from stzoo.plugins.s2s_st.cdcin.network import CDCIN
from stzoo.plugins.s2s_st.cdcin.sampling import Sampling, ScatteredSampling, StridedSampling
from stzoo.plugins.s2s_st.cdcin.training import CDCINTask
from stzoo.plugins.s2s_st.cdcin.windows import average_windows, choose_window_side, find_inference_corners
from stzoo.plugins.s2s_st.config import CDCINConfig
from stzoo.plugins.s2s_st.images import NaturalImages
from stzoo.plugins.s2s_st.lattice import Phase, find_stride_and_phase
from torch import Tensor

LARGEST = 100.0
"""Estimates are clamped to [0, LARGEST] at the end (specification A8)."""
MOST_KEPT = 0.9
"""For an irregular mask, the sparser level keeps at most this share of the measured places (ours)."""


def fit_cdcin(
    maps: Floats,
    occupied: Mask,
    measured: Mask,
    config: CDCINConfig,
    *,
    images: NaturalImages | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> CDCIN:
    """Train a network on the measured values of one section.

    Parameters
    ----------
    maps
        float32 (G, h, w), log-normalised. One map gives the paper's model of one gene; several share one network of
        one channel (A5, ours). Values outside ``measured`` are never read.
    occupied, measured
        bool (h, w): places with a spot, and those of them that were measured. One place in 2 x 2, 3 x 3 or 4 x 4 is
        treated as in the paper; any other mask as scattered places (A4, ours; needs ``network.mask_channel``).
    config
        Shape and training.
    images
        Natural images for co-training, or None.
    seed
        Of the initial weights and of all random draws.
    device
        Where to train.
    progress
        Called with (steps done, steps).

    Returns
    -------
    The trained network, in evaluation mode, on ``device``.

    Raises
    ------
    DataError
        A measured value is not finite, grids do not fit, or no window has measured spots.
    ConfigError
        Options that contradict each other, or an irregular mask without a mask channel.
    TrainingError
        A loss that is not finite.
    """
    sampled, side = _find_layout(occupied, measured, config)
    canvas = Canvas.of(maps, occupied, measured, sampled, side)
    with use_seed(seed):
        network = CDCIN(config.network)
    network.to(device)
    sampling = _choose_sampling(sampled[0], occupied, measured)
    task = CDCINTask(network, canvas, sampling, config.train, images, progress)
    fit_short(task, steps=config.train.iterations, seed=seed, clip=None)
    return network.eval()


def fill_cdcin(
    network: CDCIN,
    maps: Floats,
    occupied: Mask,
    measured: Mask,
    config: CDCINConfig,
    *,
    progress: Progress | None = None,
) -> Floats:
    """Fill maps with a trained network, by overlapping windows.

    Parameters
    ----------
    network
        Trained on maps of the same kind of mask; it may be on any device.
    maps, occupied, measured
        As for :func:`fit_cdcin`.
    config
        ``train.window`` and ``train.gene_scale`` as in training, and ``inference``.
    progress
        Called with (windows done, windows).

    Returns
    -------
    float32 (G, h, w), log-normalised, in [0, 100]; NaN where there is no spot. With ``network.final_dc`` (and
    ``network.consistency``) measured values come back bit-equal.

    Raises
    ------
    DataError, ConfigError
        As of :func:`fit_cdcin`.
    """
    sampled, side = _find_layout(occupied, measured, config)
    canvas = Canvas.of(maps, occupied, measured, sampled, side, whole=True)
    sampling = _choose_sampling(sampled[0], occupied, measured)
    device, scale = next(network.parameters()).device, config.train.gene_scale

    def predict(values: Tensor, known: Tensor) -> Tensor:
        x0, mask = sampling.lift((values.to(device) / scale, known.to(device)))
        return network.predict(x0, mask) * scale

    with _evaluation_mode(network), torch.inference_mode():
        corners = find_inference_corners(canvas, config.inference.step)
        full = average_windows(canvas, corners, predict, batch=config.inference.batch, progress=progress)
    (top, left), (h, w) = canvas.offset, occupied.shape
    filled = full[:, top : top + h, left : left + w].clamp(0, LARGEST).numpy()
    filled[:, ~occupied] = np.nan
    if network.config.final_dc and network.config.consistency:
        filled[:, measured] = maps[:, measured]
    return np.ascontiguousarray(filled, dtype=np.float32)


def _find_layout(occupied: Mask, measured: Mask, config: CDCINConfig) -> tuple[tuple[int, Phase], int]:
    """Return stride and phase, and the side of windows; stride 1 for an irregular mask."""
    sampled = find_stride_and_phase(occupied, measured) or (1, (0, 0))
    if sampled[0] == 1 and not config.network.mask_channel:
        raise ConfigError(
            "the measured spots are no regular sub-lattice (one place in 2 x 2, 3 x 3 or 4 x 4)",
            where=f"{int(measured.sum())} of {int(occupied.sum())} spots measured",
            todo="set network.mask_channel=true, or measure on a grid: --measured grid:2",
        )
    height, width = occupied.shape
    return sampled, choose_window_side(config.train.window, sampled[0], (height, width))


def _choose_sampling(stride: int, occupied: Mask, measured: Mask) -> Sampling:
    """Return the relation between levels; scattered places are thinned by the share measured, as strides are (ours)."""
    if stride > 1:
        return StridedSampling(stride)
    return ScatteredSampling(min(float(measured.sum() / occupied.sum()), MOST_KEPT))


@contextmanager
def _evaluation_mode(network: CDCIN) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
