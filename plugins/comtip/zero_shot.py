"""Zero-shot prediction: which value of a gene an image looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from stzoo.core.arrays import Floats
from stzoo.core.encoder import Prediction
from stzoo.core.errors import GeneError
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.weights import Weights
from torch import Tensor

_SPOTS = 256
"""Spots at a time."""
GENES = 256
"""Genes at a time."""


class ZeroShot:
    """Prediction through the text branch, for any gene symbol.

    Parameters
    ----------
    weights, config
        Networks with their genes and calibration, and the options they were made by.
    """

    def __init__(self, weights: Weights, config: CoMTIPConfig) -> None:
        self.weights, self.config = weights, config
        self._device = str(next(weights.network.parameters()).device)

    def predict(self, z: Floats, genes: Sequence[str]) -> Prediction:
        """Return soft template matching over the grid of values, calibrated for genes that were seen.

        Parameters
        ----------
        z
            z_img, float32 (n, d).
        """
        check_genes(genes)
        network, images = self.weights.network, torch.from_numpy(z).to(self._device)
        grid = value_grid(self.config.text.value_max, self.config.objective.grid, self._device)
        values, spread = np.empty((2, len(z), len(genes)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(genes), GENES):
                some = slice(start, min(start + GENES, len(genes)))
                values[:, some], spread[:, some] = soft_values(network, images, self._code(genes[some]), grid)
        scale, offset = self.weights.calibration.of(self._places(genes))
        return Prediction(values * scale + offset, tuple(genes), "zero-shot", spread * scale)

    def levels(self, z: Floats, genes: Sequence[str]) -> Floats:
        """Return how high a set of genes is at each spot, float32 (n,) in standard deviations."""
        check_genes(genes)
        known = self.weights.calibration.levels(self._places(genes))
        with torch.inference_mode():
            images = torch.from_numpy(z).to(self._device)
            return set_levels(self.weights.network, images, self._code(genes), *known)

    def calibrate(self, z: Floats, genes: Sequence[str], truth: Floats) -> None:
        """Calibrate some genes of the vocabulary anew, on training spots: z_img (n, d), expression (n, g)."""
        places = self._places(genes)
        self.weights.calibration = self.weights.calibration.without(places)
        predicted = self.predict(z, genes).values
        self.weights.calibration = self.weights.calibration.fitted(places, predicted, truth)

    def _places(self, genes: Sequence[str]) -> list[int]:
        return [self.weights.vocabulary.place(gene) for gene in genes]

    def _code(self, genes: Sequence[str]) -> Any:
        return self.weights.network.text.encode_genes(self.weights.vocabulary.inputs(genes).to(self._device))


def check_genes(genes: Sequence[str]) -> None:
    """Refuse to predict no gene, or one without a name.

    Raises
    ------
    GeneError
        With what to do.
    """
    if not genes or not all(gene.strip() for gene in genes):
        raise GeneError("no gene to predict", todo="name at least one gene symbol")


def value_grid(value_max: float, points: int, device: str = "cpu") -> Tensor:
    """Return the values that are tried, float32 (points,)."""
    return torch.linspace(0, value_max, points, device=device)


def soft_values(network: Network, z: Tensor, code: Any, grid: Tensor) -> tuple[Floats, Floats]:
    """Return mean and standard deviation, float32 (n, g) each, of softmax template matching over a grid.

    Specification, section 4: our reading of "template matching". The deviation is the uncertainty.

    Parameters
    ----------
    z
        z_img (n, d).
    code
        Genes, from :meth:`TextTower.encode_genes`.
    """
    means, spreads = [], []
    for start in range(0, len(z), _SPOTS):
        share = network.value_scores(z[start : start + _SPOTS], code, grid).softmax(-1)  # (n, g, k)
        mean = share @ grid
        means.append(mean.cpu())
        spreads.append((share @ grid**2 - mean**2).clamp_min(0).sqrt().cpu())
    return torch.cat(means).numpy(), torch.cat(spreads).numpy()


def set_levels(network: Network, z: Tensor, code: Any, means: Floats, spreads: Floats) -> Floats:
    """Return how high a set of genes is at each spot, float32 (n,), in standard deviations (ours).

    The profile of the set alone is read with all its genes at one level, from -1.5 to 3 standard deviations about
    their means; the result is the mean level under the softmax of the similarities.
    """
    levels = torch.linspace(-1.5, 3.0, 19, device=z.device)
    middle, spread = (torch.from_numpy(x).to(z.device) for x in (means, spreads))
    values = (middle + levels[:, None] * spread).clamp_min(0)  # (levels, genes)
    texts = torch.nn.functional.normalize(network.text.profiles(code, values), dim=-1)
    images = torch.nn.functional.normalize(z, dim=-1)
    share = (network.scale() * images @ texts.T).softmax(-1)
    out: Floats = (share @ levels).cpu().numpy()
    return out
