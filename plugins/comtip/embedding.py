"""Per-spot features of a section from the image tower, in a table that the ranks of a run fill together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from stzoo import BlockShare, Progress, Section
from stzoo.core.arrays import Floats
from stzoo.core.data.neighbourhood import Neighbourhood
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem
from stzoo.plugins.comtip.image_tower import N_STATISTICS
from stzoo.plugins.comtip.inputs import iterate_batches, turn
from stzoo.plugins.comtip.network import CoMTIPNetwork
from torch import Tensor


def fill_spot_table(
    network: CoMTIPNetwork,
    config: CoMTIPConfig,
    section: Section,
    share: BlockShare,
    device: str,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Floats:
    """Return z_img and, where asked for, mean and spread of the patch statistics of every spot, float32 (n, d)."""
    width, vision = config.embedding_dim, config.vision
    alone = share.table("alone", width)
    own = share.table("own", count_own_features(config))
    with torch.inference_mode():
        for rows, inputs in iterate_batches(section, vision, batch_size, share, progress):
            alone[rows] = encode_poses(network, inputs.to(device), poses=vision.poses).cpu().numpy()
            if has_statistics(config):
                own[rows, width:] = torch.cat([inputs.mean(1), inputs.std(1)], dim=-1).numpy()
    share.wait()
    near = Neighbourhood(section.um)
    with torch.inference_mode():
        for rows in share.blocks:
            means = near.means(alone, rows, vision.context_um)
            z, *placed = (torch.from_numpy(part).to(device) for part in (np.array(alone[rows]), *means))
            own[rows, :width] = network.image.add_context(z, placed).cpu().numpy()
    share.wait()
    return own


def append_context(
    own: Floats, config: CoMTIPConfig, section: Section, blocks: Sequence[slice]
) -> Iterator[tuple[slice, Floats]]:
    """Yield rows of :func:`fill_spot_table` beside their means over neighbours, float32 (m, d), block by block."""
    near = Neighbourhood(section.um)
    for rows in blocks:
        yield rows, np.concatenate([own[rows], *near.means(own, rows, config.context_um)], axis=1)


def has_statistics(config: CoMTIPConfig) -> bool:
    """Say whether an embedding carries the patch statistics."""
    return config.statistics and config.vision.stem is Stem.texture


def count_own_features(config: CoMTIPConfig) -> int:
    """Return the number of a spot's own features: the shared embedding space and the statistics."""
    return config.embedding_dim + (2 * N_STATISTICS if has_statistics(config) else 0)


def encode_poses(network: CoMTIPNetwork, inputs: Tensor, *, poses: bool) -> Tensor:
    """Return z_img, averaged over the eight poses of a tile if asked: tissue has no up (ours)."""
    if not poses:
        return cast("Tensor", network.image(inputs)[0])
    every = [network.image(turn(inputs, turns, flip))[0] for turns in range(4) for flip in (False, True)]
    return torch.stack(every).mean(0)
