"""Zero-shot prediction: which value of a gene an image looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from stzoo import GeneError, Prediction
from stzoo.core.arrays import Floats
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.vocabulary import Vocabulary
from torch import Tensor

_NOTHING = torch.tensor([[1.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class ZeroShotCalibration:
    """Per-gene calibration on training spots (ours).

    Parameters
    ----------
    table
        float32 (g, 4): scale and offset from zero-shot values to expression, mean and standard deviation of expression.
    """

    table: Tensor

    @classmethod
    def none(cls, genes: int) -> Self:
        """Return the identity calibration of so many genes."""
        return cls(_NOTHING.repeat(genes, 1))

    def of(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return scale and offset (g,) of genes by vocabulary index; identity for genes outside it (-1)."""
        table = self.table.numpy()
        rows = [table[p, :2] if p >= 0 else (1.0, 0.0) for p in places]
        both = np.array(rows, dtype=np.float32).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def levels(self, places: Sequence[int]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (g,) of genes; for genes outside the vocabulary (-1) the medians."""
        table = self.table[:, 2:].numpy()
        middle = np.median(table, axis=0)
        both = np.array([table[p] if p >= 0 else middle for p in places], dtype=np.float32).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def without(self, places: Sequence[int]) -> ZeroShotCalibration:
        """Return it with some genes set back to the identity."""
        table = self.table.clone()
        table[places] = _NOTHING
        return ZeroShotCalibration(table)

    def refit(self, places: Sequence[int], predicted: Floats, truth: Floats) -> ZeroShotCalibration:
        """Return it with some genes calibrated anew on training spots (see :func:`fit_calibration`)."""
        table = self.table.clone()
        table[places] = fit_calibration(predicted, truth).table
        return ZeroShotCalibration(table)


def fit_calibration(predicted: Floats, truth: Floats) -> ZeroShotCalibration:
    """Return scale and offset by least squares on training spots, (n, g) each; the scale is not negative."""
    x, y = torch.from_numpy(predicted).double(), torch.from_numpy(truth).double()
    dx = x - x.mean(0)
    scale = ((dx * (y - y.mean(0))).sum(0) / (dx**2).sum(0).clamp_min(1e-9)).clamp(0.0, 5.0)
    offset = y.mean(0) - scale * x.mean(0)
    return ZeroShotCalibration(torch.stack([scale, offset, y.mean(0), y.std(0, correction=0)], dim=1).float())


_SPOTS = 256
"""Spots at a time."""
GENES = 256
"""Genes at a time."""


class ZeroShot:
    """Prediction through the text branch, for any gene symbol.

    Parameters
    ----------
    network, vocabulary
        Both towers, and the genes of the training.
    calibration
        From zero-shot values to expression, a row a gene of the vocabulary; :meth:`calibrate` puts another one here.
    config
        The options that the network was made by.
    """

    def __init__(
        self, network: CoMTIPNetwork, vocabulary: Vocabulary, calibration: ZeroShotCalibration, config: CoMTIPConfig
    ) -> None:
        self.network, self.vocabulary, self.calibration, self.config = network, vocabulary, calibration, config
        self._device = str(next(network.parameters()).device)

    def predict(self, z: Floats, genes: Sequence[str]) -> Prediction:
        """Predict by soft template matching over a grid of values, calibrated for genes of the vocabulary.

        Parameters
        ----------
        z
            z_img, float32 (n, d).
        """
        check_genes(genes)
        images = torch.from_numpy(z).to(self._device)
        grid = torch.linspace(0, self.config.text.value_max, self.config.objective.grid, device=self._device)
        values, spread = np.empty((2, len(z), len(genes)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(genes), GENES):
                some = slice(start, min(start + GENES, len(genes)))
                values[:, some], spread[:, some] = match_values(
                    self.network, images, self._encode_genes(genes[some]), grid
                )
        scale, offset = self.calibration.of(self._find_genes(genes))
        return Prediction(values * scale + offset, tuple(genes), "zero-shot", spread * scale)

    def levels(self, z: Floats, genes: Sequence[str]) -> Floats:
        """Score a gene set at each spot, float32 (n,), in standard deviations."""
        check_genes(genes)
        known = self.calibration.levels(self._find_genes(genes))
        with torch.inference_mode():
            images = torch.from_numpy(z).to(self._device)
            return score_gene_set(self.network, images, self._encode_genes(genes), *known)

    def calibrate(self, z: Floats, genes: Sequence[str], truth: Floats) -> None:
        """Calibrate some genes of the vocabulary anew, on training spots: z_img (n, d), expression (n, g)."""
        places = self._find_genes(genes)
        self.calibration = self.calibration.without(places)
        predicted = self.predict(z, genes).values
        self.calibration = self.calibration.refit(places, predicted, truth)

    def _find_genes(self, genes: Sequence[str]) -> list[int]:
        return [self.vocabulary.place(gene) for gene in genes]

    def _encode_genes(self, genes: Sequence[str]) -> Any:
        return self.network.text.encode_genes(self.vocabulary.inputs(genes).to(self._device))


def check_genes(genes: Sequence[str]) -> None:
    """Refuse to predict no gene, or one without a name.

    Raises
    ------
    GeneError
        With what to do.
    """
    if not genes or not all(gene.strip() for gene in genes):
        raise GeneError("no gene to predict", todo="name at least one gene symbol")


def match_values(network: CoMTIPNetwork, z: Tensor, code: Any, grid: Tensor) -> tuple[Floats, Floats]:
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


def score_gene_set(network: CoMTIPNetwork, z: Tensor, code: Any, means: Floats, spreads: Floats) -> Floats:
    """Score a gene set at each spot, float32 (n,), in standard deviations (ours).

    Profiles of the set's genes alone are encoded with all genes at one level, from -1.5 to 3 standard deviations about
    their means; the score is the mean level under the softmax of the similarities to the image.
    """
    levels = torch.linspace(-1.5, 3.0, 19, device=z.device)
    middle, spread = (torch.from_numpy(x).to(z.device) for x in (means, spreads))
    values = (middle + levels[:, None] * spread).clamp_min(0)  # (levels, genes)
    texts = torch.nn.functional.normalize(network.text.encode_profiles(code, values), dim=-1)
    images = torch.nn.functional.normalize(z, dim=-1)
    share = (network.scale() * images @ texts.T).softmax(-1)
    out: Floats = (share @ levels).cpu().numpy()
    return out
