"""Which options of kriging serve sparse sections best? Compared on measured spots left out, never on hidden ones.

Usage: ``OPENBLAS_NUM_THREADS=1 python benchmarks/kriging_options.py`` from the repository root; the data come from
``../shared/data`` (or ``STZOO_SHARED_DATA``). Results are written to ``benchmarks/results/kriging_options.json``.

Sections, genes and alignment of the protocol ``her2st-c-2.5d``, its first phase only. The measured spots of C2, C3 and
C5 are dealt into five parts; each is hidden in turn as well, and filled from what is left. Truth and guess are centred
within each part before parts are pooled: a section's mean without a part is high where the part is low, which would
count against every method that keeps section means.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import stzoo
from scipy.stats import wilcoxon
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Stack
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.plugins.benchmarks.kinds.stack_data import Round

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
SECTIONS, CENTRAL, RULE, PARTS = ("C2", "C3", "C4", "C5"), 2, "grid:2+0,0", 5
OPTIONS: dict[str, dict[str, Any]] = {
    "kriging": {},
    "kriging, depth": {"depth": True},
    "kriging, colour-texture": {"encoder": "colour-texture"},
    "kriging, depth, colour-texture": {"encoder": "colour-texture", "depth": True},
}


def left_out(one: Round, stack: Stack, options: dict[str, Any]) -> list[tuple[Floats, Floats]]:
    """Return truth and guess of the measured spots of each adjacent section, centred within parts."""
    imputer = stzoo.model("kriging", options)
    rng = np.random.default_rng(0)
    parts = []
    for number, section in enumerate(stack.sections):
        part = np.where(section.measured, -1, -2)
        if number != one.central:
            spots = rng.permutation(np.flatnonzero(section.measured))
            part[spots] = np.arange(len(spots)) % PARTS
        parts.append(part)
    found: list[list[tuple[Floats, Floats]]] = [[] for _ in one.adjacent]
    for left in range(PARTS):
        given = [s.hide(s.measured & (part != left)) for s, part in zip(stack.sections, parts, strict=True)]
        done = imputer.impute(replace(stack, sections=tuple(given)))
        for pairs, i in zip(found, one.adjacent, strict=True):
            out = parts[i] == left
            truth, guess = one.truth[i][out], done.sections[i].adata.layers["imputed"][out]
            pairs.append((truth - truth.mean(axis=0), guess - guess.mean(axis=0)))
    return [(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])) for pairs in found]


def main() -> None:
    """Print the scores and write them."""
    sections = [stzoo.read(f"{DATA / 'her2st'}::{name}") for name in SECTIONS]
    one = Round.of(sections, CENTRAL, RULE, genes=GeneSet(count=250), min_detected=0.1, target=1e4)
    stack = one.align("rigid", lambda: stzoo.model("rigid"))
    rows, reference = [], None
    for name, options in OPTIONS.items():
        pairs = left_out(one, stack, options)
        pcc = [np.nan_to_num(per_gene_pcc(truth, guess)) for truth, guess in pairs]
        pooled = np.concatenate(pcc)
        reference = pooled if reference is None else reference
        rows.append(
            {
                "options": name,
                **{
                    f"pcc_median_{SECTIONS[i]}": round(float(np.median(p)), 4)
                    for i, p in zip(one.adjacent, pcc, strict=True)
                },
                "pcc_mean": round(float(pooled.mean()), 4),
                "p_against_first": float(wilcoxon(pooled - reference).pvalue) if (pooled != reference).any() else 1.0,
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    out = ROOT / "benchmarks" / "results" / "kriging_options.json"
    out.write_text(json.dumps({"rule": RULE, "parts": PARTS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
