"""What a row of a stack protocol says of hidden spots, and what that is worth, its confidence too."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from stzoo import Imputer, Stack
from stzoo.core.arrays import Array, Doubles, Floats, Mask
from stzoo.core.evaluation.task import Metrics
from stzoo.core.metrics import is_constant
from stzoo.plugins.benchmarks.kinds.hidden_spots import correlations, over_genes


@dataclass(frozen=True)
class Guess:
    """What a row says of the scored spots of a section.

    Parameters
    ----------
    values
        float32 (scored spots, g).
    confidence
        float64 (scored spots,), mean over genes; None for encoders, which have none.
    """

    values: Floats
    confidence: Doubles | None = None


def score_section(truth: Floats, guess: Guess) -> tuple[Metrics, Doubles]:
    """Return the scores of a section's scored spots, and the correlation of each gene.

    What they mean: :class:`stzoo.plugins.benchmarks.kinds.stack.StackTask`.

    Parameters
    ----------
    truth
        float32 (scored spots, g).
    """
    from scipy.stats import spearmanr

    pcc = correlations(truth, guess.values)
    error = guess.values.astype(np.float64) - truth
    metrics = over_genes(pcc) | {"mse": float((error**2).mean()), "mae": float(np.abs(error).mean())}
    sure, varies = guess.confidence, ~is_constant(truth)
    if sure is None or np.ptp(sure) < 1e-9 or not varies.any():  # the same everywhere: no half is trusted more
        return metrics, pcc
    half = np.argsort(-sure, kind="stable")[: (len(sure) + 1) // 2]
    metrics["pcc_trusted"] = over_genes(correlations(truth[half], guess.values[half]))["pcc_median"]
    lost = (error[:, varies] ** 2 / truth[:, varies].var(axis=0, dtype=np.float64)).mean(axis=1)
    metrics["rho"] = float(spearmanr(sure, lost).statistic) if np.ptp(lost) > 0 else 0.0
    return metrics, pcc


def fill_stack(imputer: Imputer, stack: Stack, target: float) -> dict[str, Array]:
    """Fill a stack: ``values0`` (spots, genes), ``confidence0`` (spots,) of the first section ... and ``seconds``."""
    start = time.perf_counter()
    done = imputer.impute(stack, target=target)
    kept: dict[str, Array] = {"seconds": np.array(time.perf_counter() - start)}
    for number, section in enumerate(done.sections):
        kept[f"values{number}"] = np.asarray(section.adata.layers["imputed"], dtype=np.float32)
        kept[f"confidence{number}"] = section.adata.layers["confidence"].mean(axis=1, dtype=np.float64)
    return kept


def guess(kept: dict[str, Array], number: int, mask: Mask) -> Guess:
    """Return what an imputer says of some spots of a section, from what :func:`fill_stack` returned."""
    return Guess(kept[f"values{number}"][mask], kept[f"confidence{number}"][mask])
