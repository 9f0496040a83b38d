"""Protocols of kind ``imputation``: hide spots of one section by a rule, fill them, score the hidden ones only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo import Column, ConfigError, DataError, Imputer, Row, Section, Stack
from stzoo.core.arrays import Doubles, Floats, Mask
from stzoo.core.data.binning import bin_section
from stzoo.core.evaluation.models import Models
from stzoo.core.metrics import masked_ssim, to_grid
from stzoo.core.workflows.impute import Sparse, sparse_section
from stzoo.plugins.benchmarks.kinds.hidden_spots import (
    LEAST_HIDDEN,
    HiddenProtocol,
    HiddenTask,
    PartScores,
    average,
    correlations,
    mark,
    over_genes,
)

ALL = "all genes"
"""The part that every gene belongs to."""


@dataclass
class ImputationProtocol(HiddenProtocol):
    """Fill one section, whose measured spots are given by rules.

    Parameters
    ----------
    section
        The section, below the data folder.
    bin_um
        Sum it into square bins of this size (µm) first; 0 takes it as it is.
    min_counts
        Spots with fewer counts are left out. All spots are looked at: this defines which spots the section has.
    genes
        Genes that are filled and scored; by default all. Depths are those of all genes.
    top
        So many genes, of the highest variance among the measured spots, are scored by themselves as well.
    target
        Counts are scaled to this depth before log1p; 0 is the median depth of the measured spots.
    """

    section: str = ""
    bin_um: float = 0.0
    min_counts: int = 0
    genes: list[str] | None = None
    top: int = 50
    target: float = 0.0


class Imputation(HiddenTask):
    """Scores over hidden spots, for all genes and for the most variable ones, means over the rules.

    ``pcc_median`` and ``pcc_mean`` are over genes that vary among the hidden spots; a gene filled with a constant
    scores 0. ``ssim`` is the median over genes of :func:`hidden_ssim`. ``gain``, ``genes_better`` and ``p_pcc`` as
    :class:`~stzoo.plugins.benchmarks.kinds.hidden_spots.HiddenTask` has them. ``seconds`` is the wall time of one rule.

    With a work folder the filled values are kept, by model, options, seed and data, so that a stopped evaluation
    goes on.
    """

    schema = ImputationProtocol
    part = "genes"
    columns = (
        Column("pcc_median", "PCC median", 3),
        Column("pcc_mean", "PCC mean", 3),
        Column("mae", "MAE", 4),
        Column("rmse", "RMSE", 4),
        Column("ssim", "SSIM", 3),
        Column("gain", "gain", 3),
        Column("genes_better", "genes better", 2),
        Column("p_pcc", "p", 4),
        Column("seconds", "s", 2),
    )

    def __init__(self, protocol: ImputationProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        if protocol.top < 1:
            raise ConfigError(f"top is {protocol.top}, expected at least 1", where=protocol.name)
        section = self.read(protocol.section)
        if protocol.bin_um:
            section = bin_section(section, protocol.bin_um)
        enough = section.measured & (section.depth >= protocol.min_counts)
        if not enough.any():
            raise DataError(f"no spot has {protocol.min_counts} counts", where=section.source, todo="lower min_counts")
        self.section = section.take(enough)

    def conditions(self) -> str:
        """Return section, rules and normalisation."""
        p = self.protocol
        bins = f"{p.bin_um:g} µm bins" if p.bin_um else "spots"
        target = f"per {p.target:g}" if p.target else "scaled to the median depth of the measured ones"
        return (
            f"{p.section}: {self.section.n_spots} {bins} with at least {p.min_counts} counts; measured"
            f" {', '.join(p.measured)}; scored on the others; log1p of counts {target}"
        )

    def run(self, row: Row, seed: int) -> dict[str, PartScores]:
        """Return what a row scores on all genes and on the most variable ones."""
        imputer = self.imputer(row, seed)
        runs = [self._run(imputer, rule) for rule in self.protocol.measured]
        return {part: average([run[part] for run in runs]) for part in runs[0]}

    def _run(self, imputer: Imputer, rule: str) -> dict[str, PartScores]:
        """Return the scores of one rule."""
        p = self.protocol
        sparse = sparse_section(self.section, rule, genes=p.genes, target=p.target or None)
        hidden = ~sparse.section.measured
        if hidden.sum() < LEAST_HIDDEN:
            raise DataError(f"the rule '{rule}' hides {int(hidden.sum())} spots", todo="use a rule that hides more")
        name = mark(imputer, Stack((sparse.section,)), sparse.target)
        kept = self.models.load_or_make(name, lambda: _fill(imputer, sparse))
        variance = sparse.truth[~hidden].var(axis=0)
        top = np.zeros(len(variance), dtype=bool)
        top[np.argsort(-variance, kind="stable")[: p.top]] = True
        parts = {ALL: np.ones(len(top), dtype=bool), f"top-{p.top}-variance": top}
        return _score(sparse, hidden, kept["values"], parts, float(kept["seconds"]))


def hidden_ssim(section: Section, truth: Floats, filled: Floats, hidden: Mask) -> Doubles:
    """Return the structural similarity of each gene's map over the hidden places, float64 (g,).

    A window needs its surroundings: the maps hold all spots of the section (by ``array_row`` and ``array_col``), with
    the truth at measured ones in both, so those agree; averaged are the windows centred on hidden places. NaN for a
    gene that is constant, and for sections without rows and columns or with several spots in one place.

    Parameters
    ----------
    truth
        float32 (n, g).
    filled
        float32 (hidden spots, g).
    """
    places = section.adata.obs[[name for name in ("array_row", "array_col") if name in section.adata.obs]]
    if places.shape[1] < 2 or places.duplicated().any():
        return np.full(truth.shape[1], np.nan)
    row, column = places.to_numpy().T
    scored, mask = to_grid(hidden, row, column)
    predicted = truth.copy()
    predicted[hidden] = filled
    found = np.empty(truth.shape[1])
    for gene in range(len(found)):  # one at a time: a dense map of all genes would be large
        a, b = (to_grid(values[:, gene], row, column)[0] for values in (truth, predicted))
        found[gene] = masked_ssim(a, b, mask, scored=scored == 1)
    return found


def _fill(imputer: Imputer, sparse: Sparse) -> dict[str, npt.NDArray[Any]]:
    start = time.perf_counter()
    done = imputer.impute(sparse.section, target=sparse.target)
    seconds = time.perf_counter() - start
    values = done.adata.layers["imputed"][~sparse.section.measured]
    return {"values": np.asarray(values, dtype=np.float32), "seconds": np.array(seconds)}


def _score(
    sparse: Sparse, hidden: Mask, filled: Floats, parts: Mapping[str, Mask], seconds: float
) -> dict[str, PartScores]:
    truth = sparse.truth[hidden]
    pcc = correlations(truth, filled)
    error = filled.astype(np.float64) - truth
    ssim = hidden_ssim(sparse.section, sparse.truth, filled, hidden)
    found = {}
    for part, genes in parts.items():
        similar = ssim[genes & np.isfinite(ssim)]
        metrics = over_genes(pcc[genes]) | {
            "mae": float(np.abs(error[:, genes]).mean()),
            "rmse": float(np.sqrt((error[:, genes] ** 2).mean())),
            "seconds": seconds,
        }
        if similar.size:
            metrics["ssim"] = float(np.median(similar))
        found[part] = PartScores(metrics, np.where(genes, pcc, np.nan))
    return found
