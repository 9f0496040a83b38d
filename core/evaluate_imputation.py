"""Protocols of kind ``imputation``: hide spots of one section by a rule, fill them, score the hidden ones only."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.binning import bin_section
from stzoo.core.errors import ConfigError, DataError, StzooError
from stzoo.core.evaluate_models import Models
from stzoo.core.evaluate_task import Column, Figures, Task
from stzoo.core.imputing import Sparse, sparse_section
from stzoo.core.interfaces import Imputer, provenance_of
from stzoo.core.metrics import Doubles, is_constant, masked_ssim, per_gene_pcc, to_grid
from stzoo.core.protocol import Protocol, Row
from stzoo.core.section import Floats, Mask, Section

ALL = "all genes"
"""The part that every gene belongs to."""
LEAST_HIDDEN = 3
"""Hidden spots that a correlation needs."""


@dataclass
class ImputationProtocol(Protocol):
    """Fill one section, whose measured spots are given by rules.

    Parameters
    ----------
    section
        The section, below the data folder.
    bin_um
        Sum it into square bins of this size (µm) first; 0 takes it as it is.
    min_counts
        Spots with fewer counts are left out. All spots are looked at: this defines which spots the section has.
    measured
        Rules (see :func:`stzoo.core.measured.measured_mask`); each is one run, figures are means over them.
    genes
        Genes that are filled and scored; by default all. Depths are those of all genes.
    top
        So many genes, of the highest variance among the measured spots, are scored by themselves as well.
    target
        Counts are scaled to this depth before log1p; 0 is the median depth of the measured spots.
    reference
        Name of the row that the others are compared with; empty for none.
    """

    section: str = ""
    bin_um: float = 0.0
    min_counts: int = 0
    measured: list[str] = field(default_factory=lambda: [f"grid:2+{r},{c}" for r in (0, 1) for c in (0, 1)])
    genes: list[str] | None = None
    top: int = 50
    target: float = 0.0
    reference: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one row scored with one seed on one part.

    Parameters
    ----------
    figures
        Means over the rules.
    pcc
        float64 (g,), correlation of each gene, mean over the rules in which it is in the part and varies; else NaN.
    """

    figures: Figures
    pcc: Doubles


class Imputation(Task):
    """Figures over hidden spots, for all genes and for the most variable ones, means over the rules.

    ``pcc_median`` and ``pcc_mean`` are over genes that vary among the hidden spots; a gene filled with a constant
    scores 0. ``ssim`` is the median over genes of :func:`hidden_ssim`. Against the reference: ``gain``, the
    ratio of the median PCC; ``genes_better``, the share of genes with a higher PCC; ``p_pcc``, the two-sided Wilcoxon
    signed-rank test over the genes' PCC, each the mean over rules. ``seconds`` is the wall time of one rule.

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
        self._check(protocol)
        section = self.read(protocol.section)
        if protocol.bin_um:
            section = bin_section(section, protocol.bin_um)
        enough = section.measured & (section.depth >= protocol.min_counts)
        if not enough.any():
            raise DataError(f"no spot has {protocol.min_counts} counts", where=section.source, todo="lower min_counts")
        self.section = section.take(enough)
        self._outcomes: dict[tuple[str, int], dict[str, Outcome]] = {}

    def _check(self, protocol: ImputationProtocol) -> None:
        """Find a slip in the last row before the first is run."""
        if protocol.reference and protocol.reference not in [row.name for row in protocol.rows]:
            raise ConfigError(f"no row is called '{protocol.reference}', the reference", todo="name one of the rows")
        if protocol.top < 1:
            raise ConfigError(f"top is {protocol.top}, expected at least 1", where=protocol.name)
        for row in protocol.rows:
            try:
                if not row.weights:
                    self.models.imputer(row, protocol.seeds[0])
            except StzooError as error:
                if not isinstance(error.__cause__, ImportError):  # a missing package costs the row only
                    raise

    def conditions(self) -> str:
        """Return section, rules and normalisation."""
        p = self.protocol
        bins = f"{p.bin_um:g} µm bins" if p.bin_um else "spots"
        target = f"per {p.target:g}" if p.target else "scaled to the median depth of the measured ones"
        return (
            f"{p.section}: {self.section.n_spots} {bins} with at least {p.min_counts} counts; measured"
            f" {', '.join(p.measured)}; scored on the others; log1p of counts {target}"
        )

    def score(self, row: Row, seed: int) -> dict[str, Figures]:
        """Return the figures of all genes and of the most variable ones (see :class:`Task`)."""
        own = self._outcome(row, seed)
        name = self.protocol.reference
        if not name or row.name == name:
            return {part: found.figures for part, found in own.items()}
        reference = next(other for other in self.protocol.rows if other.name == name)
        against = self._outcome(reference, seed if self.is_random(reference) else self.protocol.seeds[0])
        return {part: found.figures | compared(found, against[part]) for part, found in own.items()}

    def _outcome(self, row: Row, seed: int) -> dict[str, Outcome]:
        if (row.name, seed) not in self._outcomes:
            imputer = self.models.imputer(row, seed)
            runs = [self._run(imputer, rule) for rule in self.protocol.measured]
            self._outcomes[row.name, seed] = {part: _outcome([run[part] for run in runs]) for part in runs[0]}
        return self._outcomes[row.name, seed]

    def _run(self, imputer: Imputer, rule: str) -> dict[str, Outcome]:
        """Return the figures of one rule."""
        p = self.protocol
        sparse = sparse_section(self.section, rule, genes=p.genes, target=p.target or None)
        hidden = ~sparse.section.measured
        if hidden.sum() < LEAST_HIDDEN:
            raise DataError(f"the rule '{rule}' hides {int(hidden.sum())} spots", todo="use a rule that hides more")
        kept = self.models.kept(_mark(imputer, sparse), lambda: _filled(imputer, sparse))
        variance = sparse.truth[~hidden].var(axis=0)
        top = np.zeros(len(variance), dtype=bool)
        top[np.argsort(-variance, kind="stable")[: p.top]] = True
        parts = {ALL: np.ones(len(top), dtype=bool), f"top-{p.top}-variance": top}
        return _scored(sparse, hidden, kept["values"], parts, float(kept["seconds"]))


def compared(own: Outcome, reference: Outcome) -> Figures:
    """Return what a row is against another one: ``gain``, ``genes_better`` and ``p_pcc`` (see :class:`Imputation`)."""
    from scipy.stats import wilcoxon

    both = np.isfinite(own.pcc) & np.isfinite(reference.pcc)
    difference = own.pcc[both] - reference.pcc[both]
    base = reference.figures["pcc_median"]
    return {
        "gain": own.figures["pcc_median"] / base if base > 0 else float("nan"),
        "genes_better": float((difference > 0).mean()) if both.any() else float("nan"),
        "p_pcc": float(wilcoxon(difference).pvalue) if difference.any() else 1.0,
    }


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


def _filled(imputer: Imputer, sparse: Sparse) -> dict[str, npt.NDArray[Any]]:
    start = time.perf_counter()
    done = imputer.impute(sparse.section, target=sparse.target)
    seconds = time.perf_counter() - start
    values = done.adata.layers["imputed"][~sparse.section.measured]
    return {"values": np.asarray(values, dtype=np.float32), "seconds": np.array(seconds)}


def _mark(imputer: Imputer, sparse: Sparse) -> str:
    """Return a name that changes with the model, its options and weights, the seed, and all that it is given."""
    digest = hashlib.sha256(json.dumps(provenance_of(imputer), sort_keys=True, default=str).encode())
    section = sparse.section
    for array in (section.um, section.counts(), section.depth, np.array([sparse.target])):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(section.genes).encode())
    return f"imputed-{imputer.name}-{digest.hexdigest()[:16]}"


def _scored(
    sparse: Sparse, hidden: Mask, filled: Floats, parts: Mapping[str, Mask], seconds: float
) -> dict[str, Outcome]:
    truth = sparse.truth[hidden]
    pcc = np.nan_to_num(per_gene_pcc(truth, filled))
    pcc[is_constant(truth)] = np.nan
    error = filled.astype(np.float64) - truth
    ssim = hidden_ssim(sparse.section, sparse.truth, filled, hidden)
    found = {}
    for part, genes in parts.items():
        own, similar = pcc[genes & np.isfinite(pcc)], ssim[genes & np.isfinite(ssim)]
        figures = {
            "pcc_median": float(np.median(own)) if own.size else float("nan"),
            "pcc_mean": float(own.mean()) if own.size else float("nan"),
            "mae": float(np.abs(error[:, genes]).mean()),
            "rmse": float(np.sqrt((error[:, genes] ** 2).mean())),
            "seconds": seconds,
        }
        if similar.size:
            figures["ssim"] = float(np.median(similar))
        found[part] = Outcome(figures, np.where(genes, pcc, np.nan))
    return found


def _outcome(runs: Sequence[Outcome]) -> Outcome:
    """Average over rules; a gene over those in which it has a correlation."""
    names = [name for name in runs[0].figures if all(name in run.figures for run in runs)]
    figures = {name: float(np.mean([run.figures[name] for run in runs])) for name in names}
    table = np.array([run.pcc for run in runs])
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    return Outcome(
        figures, np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(axis=0))
    )
