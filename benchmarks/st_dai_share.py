"""How much of st-dai's network belongs in the result, and do several networks help? Asked of measured spots left out.

Usage: ``OMP_NUM_THREADS=1 python benchmarks/st_dai_share.py`` from the repository root; the data come from
``../shared/data`` (or ``STZOO_SHARED_DATA``). Results are written to ``benchmarks/results/st_dai_share.json``.

Sections, genes and alignment of the protocol ``her2st-c-2.5d``, its first phase only. The measured spots of all four
sections are dealt into five parts; each is hidden in turn as well, and filled from what is left, by pseudo-labels alone
(``share=0``) and by refined networks alone (``share=1``) of so many seeds. Every other share is a mean of the two (but
for values cut off at 0). Spots that the protocol hides are never looked at. Truth and guess are centred within each
part and section before parts are pooled, as in ``kriging_options.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import stzoo
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Stack
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.workflows.features import cache_embeddings, encoder_of
from stzoo.plugins.benchmarks.kinds.stack_data import Round

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
SECTIONS, CENTRAL, RULE, PARTS = ("C2", "C3", "C4", "C5"), 2, "grid:2+0,0", 5
SHARES, SEEDS = (0.0, 0.25, 0.5, 0.75, 1.0), (0, 1)
LABELS: dict[str, Any] = {"share": 0.0, "network": {"steps": 1}, "refine": {"tune": "none"}}


def fillings(one: Round, stack: Stack) -> Iterator[tuple[list[Floats], list[Floats], list[list[Floats]]]]:
    """Yield, of each part, the truth, the labels and the word of each network, (spots, genes) a section."""
    rng = np.random.default_rng(0)
    parts = []
    for section in stack.sections:
        part = np.full(section.n_spots, -1)
        spots = rng.permutation(np.flatnonzero(section.measured))
        part[spots] = np.arange(len(spots)) % PARTS
        parts.append(part)
    encoder = cache_embeddings(encoder_of("colour-texture", device="cpu", seed=0))
    for left in range(PARTS):
        out = [part == left for part in parts]
        given = tuple(s.hide(s.measured & ~hidden) for s, hidden in zip(stack.sections, out, strict=True))
        found = []
        for options, seed in [(LABELS, 0), *(({"share": 1.0}, seed) for seed in SEEDS)]:
            imputer = stzoo.model("st-dai", options, seed=seed, role="imputer")
            vars(imputer)["_encoder"] = encoder  # embeds every image once, not once a model
            done = imputer.impute(replace(stack, sections=given))
            found.append([s.adata.layers["imputed"][o] for s, o in zip(done.sections, out, strict=True)])
        print(f"part {left + 1} of {PARTS}", flush=True)
        yield [truth[o] for truth, o in zip(one.truth, out, strict=True)], found[0], found[1:]


def row(share: float, members: int, filled: list[tuple[list[Floats], list[Floats], list[list[Floats]]]]) -> Any:
    """Return the error and correlations of a share and so many networks, by section and over all."""
    pcc, errors = [], []
    for number in range(len(SECTIONS)):
        pairs = []
        for truth, labels, said in filled:
            word = np.mean([one[number] for one in said[:members]], axis=0)
            guess = (1 - share) * labels[number] + share * word
            errors.append(float(((guess - truth[number]) ** 2).mean()))
            pairs.append((truth[number] - truth[number].mean(axis=0), guess - guess.mean(axis=0)))
        pcc.append(np.nan_to_num(per_gene_pcc(*(np.concatenate(side) for side in zip(*pairs, strict=True)))))
    medians = {f"pcc_median_{name}": round(float(np.median(p)), 4) for name, p in zip(SECTIONS, pcc, strict=True)}
    mean, mse = round(float(np.mean(pcc)), 4), round(float(np.mean(errors)), 4)
    return {"share": share, "networks": members, **medians, "pcc_mean": mean, "mse": mse}


def main() -> None:
    """Print the scores and write them."""
    sections = [stzoo.read(f"{DATA / 'her2st'}::{name}") for name in SECTIONS]
    one = Round.of(sections, CENTRAL, RULE, genes=GeneSet(count=250), min_detected=0.1, target=1e4)
    filled = list(fillings(one, one.align("rigid", lambda: stzoo.model("rigid"))))
    rows = [row(share, n, filled) for share in SHARES for n in (range(1, len(SEEDS) + 1) if share else (1,))]
    for found in rows:
        print("  ".join(f"{key} {value}" for key, value in found.items()))
    out = ROOT / "benchmarks" / "results" / "st_dai_share.json"
    out.write_text(json.dumps({"rule": RULE, "parts": PARTS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
