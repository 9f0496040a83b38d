"""What CoMTIP trains on: the genes, and the measured spots of the sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stzoo.core.errors import DataError
from stzoo.core.section import Section
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.inputs import raw_inputs, section_moments, standardised
from torch import Tensor

TARGET = 1e4
"""Expression is log1p of counts per 10,000."""


def training_genes(sections: Sequence[Section], min_detected: float, most: int) -> list[str]:
    """Return the genes that all sections have and that are detected in enough of the measured spots.

    Of those, the ``most`` of highest mean expression, in the order of the first section.

    Raises
    ------
    DataError
        No gene is left.
    """
    shared = set.intersection(*(set(section.genes) for section in sections))
    genes = [gene for gene in sections[0].genes if gene in shared]
    seen, spots = np.zeros(len(genes)), 0
    for section in sections:
        x = section.adata[section.measured, genes].X
        seen += np.asarray((x > 0).sum(axis=0)).ravel()
        spots += int(section.measured.sum())
    kept = [gene for gene, count in zip(genes, seen, strict=True) if count >= min_detected * spots]
    if not kept:
        raise DataError(
            f"no gene is detected in {min_detected:.0%} of the {spots} training spots", todo="lower train.min_detected"
        )
    means = np.concatenate([s.expression(kept, target=TARGET)[s.measured] for s in sections]).mean(axis=0)
    chosen = np.sort(np.argsort(-means, kind="stable")[:most])
    return [kept[i] for i in chosen]


@dataclass
class TrainingData:
    """All measured spots of the training sections.

    Parameters
    ----------
    inputs
        (views, n, ...), inputs of the image tower; each view is shifted at random.
    values
        (n, g), log1p of counts per 10,000.
    profiles
        (n, p), leading principal components of the standardised values, for soft targets.
    um, section
        (n, 2) positions in µm, and int64 (n,) which section a spot is of.
    """

    inputs: Tensor
    values: Tensor
    profiles: Tensor
    um: Tensor
    section: Tensor


def gather(sections: Sequence[Section], genes: Sequence[str], config: CoMTIPConfig, seed: int) -> TrainingData:
    """Read tiles and expression of the measured spots."""
    shift = np.random.default_rng(seed)
    views: list[list[Tensor]] = [[] for _ in range(config.train.views)]
    values, um, number_of = [], [], []
    for which, section in enumerate(sections):
        usable = section.measured & (np.nan_to_num(section.depth) > 0)
        values.append(torch.from_numpy(section.expression(genes, target=TARGET)[usable]))
        um.append(torch.from_numpy(section.um[usable]).float())
        number_of.append(torch.full((int(usable.sum()),), which))
        moments = section_moments(section, config.vision, 32)
        reach = config.train.shift_um / float(section.require_slide().mpp or 1.0)
        for number, view in enumerate(views):
            places = section.pixels[usable]
            if number > 0:
                places = places + shift.uniform(-reach, reach, places.shape)
            for start in range(0, len(places), 32):
                raw = raw_inputs(section, places[start : start + 32], config.vision)
                view.append(standardised(raw, moments))
    y = torch.cat(values)
    scaled = (y - y.mean(0)) / (y.std(0) + 1e-3)
    u, s, _ = torch.linalg.svd(scaled, full_matrices=False)
    inputs = torch.stack([torch.cat(view) for view in views])
    return TrainingData(inputs, y, (u * s)[:, :20], torch.cat(um), torch.cat(number_of))
