"""Write the figures of an evaluation into README.md: ``python benchmarks/readme_figures.py``.

Reads benchmarks/results/her2st-c5.json, which ``stzoo evaluate her2st-c5 --json`` wrote.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- figures:her2st-c5 -->"


def table(path: Path) -> str:
    """Return the figures as a Markdown table, one row a model."""
    scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
    sets = list(dict.fromkeys(score["genes"] for score in scores))
    lines = [
        "| | " + " | ".join(f"{name}: PCC mean (median)" for name in sets) + " | seeds |",
        "|---|" + "---|" * (len(sets) + 1),
    ]
    for row in dict.fromkeys(score["row"] for score in scores):
        own = {score["genes"]: score for score in scores if score["row"] == row}
        cells = [
            f"{own[name]['pcc_mean']:.3f}"
            + (f" ± {own[name]['pcc_sd']:.3f}" if own[name]["seeds"] > 1 else "")
            + f" ({own[name]['pcc_median']:.3f})"
            for name in sets
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {own[sets[0]]['seeds']} |")
    return "\n".join(lines)


def filled(readme: str, figures: str) -> str:
    """Return the README with the table between its two marks."""
    return re.sub(f"{MARK}(.*{MARK})?", lambda _: f"{MARK}\n{figures}\n{MARK}", readme, count=1, flags=re.S)


if __name__ == "__main__":
    page = ROOT / "README.md"
    figures = table(ROOT / "benchmarks" / "results" / "her2st-c5.json")
    page.write_text(filled(page.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(figures)
