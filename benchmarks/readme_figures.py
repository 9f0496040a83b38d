"""Write the scores of evaluations into Markdown pages: ``python benchmarks/readme_figures.py``.

Reads every benchmarks/results/NAME.json that ``stzoo evaluate NAME --json`` wrote, and puts its table between the marks
``<!-- figures:NAME -->`` of README.md and of the pages in docs/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stzoo.core.evaluation.run import cell

ROOT = Path(__file__).resolve().parents[1]


def table(found: Mapping[str, Any], metrics: tuple[str, ...] = ()) -> str:
    """Return a report as a Markdown table, one line a row.

    Parameters
    ----------
    found
        Report of ``stzoo evaluate --json``.
    metrics
        Names of the metrics that are shown; by default the first two of the protocol's that are no count. A report
        with more than two parts shows the first one alone (all genes, all sections), and of a stack the first metric
        of every section, or every metric of every share of measured spots.
    """
    parts = list(dict.fromkeys(score["part"] for score in found["scores"]))
    shown = [c for c in found["columns"] if c[0] in metrics] or [c for c in found["columns"] if c[2]][:2]
    if found["protocol"]["kind"] == "finetune":
        places = [(part, shown[0]) for part in parts]
    elif found["protocol"]["kind"] == "stack" and parts[0] == "all sections":
        places = [(part, shown[0]) for part in parts] + [(parts[0], column) for column in shown[1:]]
    elif found["protocol"]["kind"] == "stack":
        places = [(part, column) for column in shown for part in parts if ", " not in part]
    else:
        places = [(part, column) for part in (parts if len(parts) <= 2 else parts[:1]) for column in shown]
    heads = [f"{part}: {head}" for part, (_, head, _) in places]
    lines = ["| | " + " | ".join(heads) + " | seeds |", "|---|" + "---|" * (len(heads) + 1)]
    for row in dict.fromkeys(score["row"] for score in found["scores"]):
        own = {score["part"]: score for score in found["scores"] if score["row"] == row}
        cells = [cell(own[part], name, digits) if part in own else "" for part, (name, _, digits) in places]
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {next(iter(own.values()))['seeds']} |")
    lines += [f"| {row} | not run: {reason} |" for row, reason in found["not_run"].items()]
    return "\n".join(lines)


SHOWN = {
    "her2st-zeroshot-genes": ("pcc_mean", "share", "p_spots", "p_genes"),
    "her2st-retrieval": ("recall_1", "recall_10", "recall_50", "median_rank"),
    **dict.fromkeys(
        ("xenium-q1-50um", "xenium-q1-50um-ablation", "xenium-q1-25um", "xenium-q2-50um", "mouse-brain-50um"),
        ("pcc_median", "mae", "rmse", "ssim", "gain", "p_pcc"),
    ),
    "xenium-q1-50um-cdcin": ("pcc_median", "mae", "gain"),
    **dict.fromkeys(
        ("her2st-c-2.5d", "her2st-c-2.5d-ablation", "paste-breast-2.5d", "dlpfc-2.5d", "mob-2.5d"),
        ("pcc_median", "pcc_mean", "mse", "gain", "p_pcc", "rho", "pcc_trusted"),
    ),
    "her2st-c-2.5d-rates": ("pcc_median", "mse"),
    "her2st-c-2.5d-rotate": ("pcc_median", "mse", "gain", "p_pcc"),
    "dlpfc-eight-genes": ("mae", "pcc", "pcc_concatenated"),
}
"""Metrics of protocols for which the first two are not the ones to show."""


def filled(page: str, name: str, text: str) -> str:
    """Return a page with a table between its two marks; a page without marks stays as it is."""
    mark = f"<!-- figures:{name} -->"
    return re.sub(f"{mark}(.*{mark})?", lambda _: f"{mark}\n{text}\n{mark}", page, count=1, flags=re.S)


if __name__ == "__main__":
    for result in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        found = json.loads(result.read_text(encoding="utf-8"))
        if isinstance(found, dict) and {"scores", "columns"} <= set(found):
            text = table(found, SHOWN.get(result.stem, ()))
            for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
                page.write_text(filled(page.read_text(encoding="utf-8"), result.stem, text), encoding="utf-8")
            print(f"{result.stem}\n{text}\n")
