"""Gaussian means over neighbouring spots (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from stzoo.core.section import Floats, Points
from torch import Tensor


def neighbour_weights(um: Points, width: float) -> Any:
    """Return row-normalised Gaussian weights, scipy CSR (n, n), of spots within three widths (µm), itself included."""
    tree = cKDTree(um)
    near: Any = tree.sparse_distance_matrix(tree, 3 * width, output_type="coo_matrix")
    near = near.tocsr()
    near.data = np.exp(-0.5 * (near.data / width) ** 2)
    near.setdiag(1.0)
    return near.multiply(1 / np.asarray(near.sum(1)).reshape(-1, 1)).tocsr()


def with_means(um: Points, z: Floats, widths: Sequence[float]) -> Floats:
    """Return own vectors beside means over their neighbours', float32 (n, d * (1 + widths))."""
    parts = [z, *(np.asarray(neighbour_weights(um, width) @ z, dtype=np.float32) for width in widths)]
    return np.concatenate(parts, axis=1)


def means(um: Tensor, z: Tensor, widths: Sequence[float]) -> list[Tensor]:
    """Return for each width the means (n, d) over the neighbours of a few spots, with gradients."""
    if not widths:
        return []
    distance = torch.cdist(um, um)
    found = []
    for width in widths:
        weight = torch.exp(-0.5 * (distance / width) ** 2) * (distance <= 3 * width)
        found.append((weight / weight.sum(1, keepdim=True)) @ z)
    return found
