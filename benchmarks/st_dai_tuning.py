"""What refinement of st-dai costs: tuned parameters and time, domain layers against full fine-tuning.

Usage: ``OMP_NUM_THREADS=1 python benchmarks/st_dai_tuning.py [--repeats 3]`` from the repository root; the data come
from ``../shared/data`` (or ``STZOO_SHARED_DATA``). Results are written to ``benchmarks/results/st_dai_tuning.json``.

her2st, C4 in full and a quarter of C2, C3 and C5 (first phase), the 250 genes of highest mean among the measured spots.
The network is trained on the central section, then refined for the three others with the same losses and batches: not
at all, the domain layer behind the last layer (the default), one behind every layer, the head, or everything, for 20 to
300 steps. Scored by held-out measured spots: a fifth of those of each adjacent section is hidden too; spots that are
hidden anyway are never looked at. ``enough`` is the fewest steps within one per cent of the best error of that way of
tuning; ratios are full fine-tuning's time over the domain layer's, at 300 steps and each at its own ``enough``. Times
are medians over repeats, of the wall and of the processor (which other work on the machine blurs less).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import stzoo
from stzoo.core.arrays import Mask
from stzoo.core.data.section import Stack
from stzoo.core.encoder import Encoder
from stzoo.core.evaluation.protocol import GeneSet
from stzoo.core.workflows.features import cache_embeddings, encoder_of
from stzoo.plugins.benchmarks.kinds.stack_data import Round

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
SECTIONS, CENTRAL, RULE, PART = ("C2", "C3", "C4", "C5"), 2, "grid:2+0,0", 0.2
STEPS, CLOSE = (20, 60, 300), 1.01
TUNED: dict[str, dict[str, Any]] = {
    "none": {"refine": {"tune": "none"}},
    "pdl": {},
    "pdl, every layer": {"pdl": {"layers": 3}},
    "head": {"refine": {"tune": "head"}},
    "all": {"refine": {"tune": "all"}},
}

Found = dict[str, Any]


def sparse_stack() -> tuple[Round, Stack, list[Mask]]:
    """Return the protocol's round, the aligned stack without the held-out spots, and these."""
    sections = [stzoo.read(f"{DATA / 'her2st'}::{name}") for name in SECTIONS]
    one = Round.of(sections, CENTRAL, RULE, genes=GeneSet(count=250), min_detected=0.1, target=1e4)
    stack = one.align("rigid", lambda: stzoo.model("rigid"))
    rng = np.random.default_rng(0)
    out = []
    for number, section in enumerate(stack.sections):
        held = np.zeros(section.n_spots, dtype=bool)
        spots = rng.permutation(np.flatnonzero(section.measured))
        held[spots[: round(PART * len(spots)) if number != CENTRAL else 0]] = True
        out.append(held)
    given = tuple(s.hide(s.measured & ~held) for s, held in zip(stack.sections, out, strict=True))
    return one, replace(stack, sections=given), out


def cost(one: Round, stack: Stack, held: list[Mask], tune: str, steps: int, *, repeats: int, encoder: Encoder) -> Found:
    """Refine one way, and return its cost and its error at the held-out spots."""
    chosen = TUNED[tune]
    options = {**chosen, "network": {"learn": "central"}, "refine": {**chosen.get("refine", {}), "steps": steps}}
    imputer = stzoo.model("st-dai", options, role="imputer")
    vars(imputer)["_encoder"] = encoder  # embeds every image once, not once a model
    seconds, cpu, errors = [], [], []
    for _ in range(repeats):
        done = imputer.impute(stack)
        seconds.append(imputer.report.refine_seconds)
        cpu.append(imputer.report.refine_cpu_seconds)
    for i in one.adjacent:
        guess = done.sections[i].adata.layers["imputed"][held[i]]
        errors.append(float(((guess - one.truth[i][held[i]]) ** 2).mean()))
    report = imputer.report
    return {
        "tune": tune,
        "steps": steps,
        "tuned": report.tuned,
        "share_percent": round(100 * report.tuned / report.parameters, 2),
        "refine_seconds": round(statistics.median(seconds), 3),
        "refine_cpu_seconds": round(statistics.median(cpu), 3),
        "held_out_mse": round(float(np.mean(errors)), 5),
    }


def ratios(rows: list[Found]) -> Found:
    """Return what full fine-tuning costs in domain layers."""

    def ratio(what: str, steps: dict[str, int]) -> float:
        of = {tune: next(r[what] for r in rows if (r["tune"], r["steps"]) == (tune, n)) for tune, n in steps.items()}
        return round(float(of["all"] / of["pdl"]), 2)

    enough = {}
    for tune in TUNED:
        own = [r for r in rows if r["tune"] == tune]
        best = min(r["held_out_mse"] for r in own)
        enough[tune] = min(r["steps"] for r in own if r["held_out_mse"] <= CLOSE * best)
    most = dict.fromkeys(("all", "pdl"), STEPS[-1])
    least = {tune: enough[tune] for tune in most}
    return {
        "enough": enough,
        "ratio_equal_steps": ratio("refine_seconds", most),
        "ratio_equal_steps_cpu": ratio("refine_cpu_seconds", most),
        "ratio_at_enough": ratio("refine_seconds", least),
        "ratio_at_enough_cpu": ratio("refine_cpu_seconds", least),
    }


def main() -> None:
    """Print the scores and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}: set STZOO_SHARED_DATA")
    setting, encoder = sparse_stack(), cache_embeddings(encoder_of("colour-texture", device="cpu", seed=0))
    rows = []
    for tune in TUNED:
        for steps in STEPS if tune != "none" else (0,):
            rows.append(cost(*setting, tune, steps, repeats=chosen.repeats, encoder=encoder))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    found = ratios(rows)
    print(found)
    machine = {"cpus": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS", "default")}
    machine["load"] = str(round(os.getloadavg()[0], 2))
    out = ROOT / "benchmarks" / "results" / "st_dai_tuning.json"
    out.write_text(json.dumps({"machine": machine, "repeats": chosen.repeats, "rows": rows, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
