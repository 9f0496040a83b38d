"""What protocols that hide spots share: scores over the hidden ones, means over runs, a row against another one."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from stzoo import ConfigError, Imputer, Protocol, Row, Stack, StzooError, Task
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.task import Metrics
from stzoo.core.metrics import is_constant, per_gene_pcc
from stzoo.core.model import provenance_of

FLOOR = "gene-mean"
"""The imputer of a row that names no model and no weights."""
LEAST_HIDDEN = 3
"""Hidden spots that a correlation needs."""


@dataclass
class HiddenProtocol(Protocol):
    """Hide spots by rules, fill them, score the hidden ones only.

    Parameters
    ----------
    measured
        Rules (see :func:`stzoo.core.data.sampling_rules.measured_mask`); each is one run, scores are means over them.
    reference
        Name of the row that the others are compared with; empty for none.
    """

    measured: list[str] = field(default_factory=lambda: [f"grid:2+{r},{c}" for r in (0, 1) for c in (0, 1)])
    reference: str = ""


@dataclass(frozen=True)
class PartScores:
    """What one row scored with one seed on one part.

    Parameters
    ----------
    metrics
        Means over the runs.
    pcc
        float64 (g,), correlation of each gene, mean over the runs in which it is in the part and varies; else NaN.
    """

    metrics: Metrics
    pcc: Doubles


class HiddenTask(Task):
    """Runs every row once a seed, and compares it with the reference.

    Against the reference: ``gain``, the ratio of the median PCC; ``genes_better``, the share of genes with a higher
    PCC; ``p_pcc``, the two-sided Wilcoxon signed-rank test over the genes' PCC, each the mean over runs.
    """

    def __init__(self, protocol: HiddenProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        if protocol.reference and protocol.reference not in [row.name for row in protocol.rows]:
            raise ConfigError(f"no row is called '{protocol.reference}', the reference", todo="name one of the rows")
        for row in protocol.rows:  # find a slip in the last row before the first is run
            try:
                self.check(row)
            except StzooError as error:
                if not isinstance(error.__cause__, ImportError):  # a missing package costs the row only
                    raise
        self._outcomes: dict[tuple[str, int], dict[str, PartScores]] = {}

    def imputer(self, row: Row, seed: int) -> Imputer:
        """Return the imputer of a row, the gene mean where it names none."""
        return self.models.imputer(row if row.model or row.weights else replace(row, model=FLOOR), seed)

    @abstractmethod
    def run(self, row: Row, seed: int) -> dict[str, PartScores]:
        """Return what a row scores with a seed on each part."""

    def check(self, row: Row) -> None:
        """Refuse a row that can not be run; by default every row is an imputer."""
        if not row.weights:
            self.imputer(row, self.protocol.seeds[0])

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the scores of each part, with the reference beside (see :class:`Task`)."""
        own = self._outcome(row, seed)
        name = self.protocol.reference
        if not name or row.name == name:
            return {part: found.metrics for part, found in own.items()}
        reference = next(other for other in self.protocol.rows if other.name == name)
        against = self._outcome(reference, seed if self.is_random(reference) else self.protocol.seeds[0])
        return {part: found.metrics | compare_rows(found, against[part]) for part, found in own.items()}

    def _outcome(self, row: Row, seed: int) -> dict[str, PartScores]:
        if (row.name, seed) not in self._outcomes:
            self._outcomes[row.name, seed] = self.run(row, seed)
        return self._outcomes[row.name, seed]


def correlations(truth: Floats, filled: Floats) -> Doubles:
    """Return the correlation of each gene, float64 (g,): 0 for a constant prediction, NaN for a constant truth."""
    pcc = np.nan_to_num(per_gene_pcc(truth, filled))
    pcc[is_constant(truth)] = np.nan
    return pcc


def over_genes(pcc: Doubles) -> Metrics:
    """Return ``pcc_median`` and ``pcc_mean`` of the genes that have a correlation (NaN where none has)."""
    known = pcc[np.isfinite(pcc)]
    return {
        "pcc_median": float(np.median(known)) if known.size else float("nan"),
        "pcc_mean": float(known.mean()) if known.size else float("nan"),
    }


def average(runs: Sequence[PartScores]) -> PartScores:
    """Average over runs; a gene over those in which it has a correlation."""
    names = [name for name in runs[0].metrics if all(name in run.metrics for run in runs)]
    metrics = {name: float(np.mean([run.metrics[name] for run in runs])) for name in names}
    table = np.array([run.pcc for run in runs])
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(axis=0)
    return PartScores(
        metrics, np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(axis=0))
    )


def compare_rows(own: PartScores, reference: PartScores) -> Metrics:
    """Compare a row's per-gene PCC with the reference row's (see :class:`HiddenTask`)."""
    from scipy.stats import wilcoxon

    both = np.isfinite(own.pcc) & np.isfinite(reference.pcc)
    difference = own.pcc[both] - reference.pcc[both]
    base = reference.metrics["pcc_median"]
    return {
        "gain": own.metrics["pcc_median"] / base if base > 0 else float("nan"),
        "genes_better": float((difference > 0).mean()) if both.any() else float("nan"),
        "p_pcc": float(wilcoxon(difference).pvalue) if difference.any() else 1.0,
    }


def mark(imputer: Imputer, stack: Stack, target: float) -> str:
    """Return a name that changes with the model, its options and weights, the seed, and all that it is given."""
    digest = hashlib.sha256(json.dumps(provenance_of(imputer), sort_keys=True, default=str).encode())
    for number, section in enumerate(stack.sections):
        for array in (stack.um(number), section.counts(), section.depth, np.array([target])):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update("\n".join(section.genes).encode())
    return f"imputed-{imputer.name}-{digest.hexdigest()[:16]}"
