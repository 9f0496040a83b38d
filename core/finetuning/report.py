"""The report of a fine-tuning: scores with their conditions, in JSON, in words, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo.core.finetuning.controls import HEAD, OWN, TUNED, Line
from stzoo.core.finetuning.plot import plot_finetuning
from stzoo.core.runtime.outputs import writing

if TYPE_CHECKING:
    from stzoo.core.finetuning.plan import Plan
    from stzoo.core.finetuning.tuning import Tuned

NEAR = 0.002
"""Differences of the mean PCC below this are called none."""


def report(
    plan: Plan, tuned: Tuned | None, lines: Sequence[Line], judged: Mapping[str, float], kept: str
) -> dict[str, Any]:
    """Return everything that is known of a fine-tuning, as JSON values (``verdict`` is added by :func:`verdict`)."""
    from importlib.metadata import version

    from stzoo.core import config as configs

    about = dict(plan.encoder.provenance)
    found: dict[str, Any] = {
        "stzoo": version("stzoo"),
        "model": plan.encoder.name,
        "base": {key: about.get(key, "") for key in ("name", "source", "sha256")},
        "control": plan.control.name if plan.control else "",
        "seed": plan.seed,
        "settings": configs.dump(plan.settings),
        "split": plan.split.describe(),
        "genes": {
            "tuned": len(plan.genes),
            "new": list(plan.new),
            "scored": len(plan.scored),
            "names": list(plan.genes),
        },
        "lines": [
            {"name": line.name, "pcc_mean": line.mean, "pcc_median": line.median, "note": line.note} for line in lines
        ],
        "validation": dict(judged),
        "kept": kept,
    }
    if tuned is not None:
        done = tuned.fit
        found["parameters"] = {"network": tuned.parameters, "tuned": tuned.tuned}
        found["run"] = {"steps": done.steps, "best_step": done.best_step, "stopped_early": done.stopped_early}
        found["run"]["precision"] = done.precision.value
    return found


def verdict(found: Mapping[str, Any]) -> str:
    """Say in words what fine-tuning gained, and what was kept; the test has no say in what is kept."""
    test = {line["name"]: line["pcc_mean"] for line in found["lines"]}
    kept, after = found["kept"], test[found["kept"]]
    words = [_why(found)]
    if OWN in test:
        words.append(f"On the test spots what is kept scores {after:.3f}, the weights as they come {test[OWN]:.3f}:")
        words[-1] += f" {_describe_gain(after - test[OWN])}."
    else:
        words.append(
            f"On the test spots what is kept scores {after:.3f}; the weights come without a head of their own."
        )
    simple = {name: pcc for name, pcc in test.items() if found["control"] and name.endswith(f"on {found['control']}")}
    if simple:
        best = max(simple, key=lambda name: simple[name])
        if after - simple[best] > NEAR:
            words.append(f"The best simple control, {best}, scores {simple[best]:.3f}.")
        else:
            words.append(
                f"{best[0].upper()}{best[1:]}, which needs no weights, does as well or better ({simple[best]:.3f})."
            )
    if TUNED in test and kept != TUNED and test[TUNED] - after > NEAR:
        words.append(f"(The tuned network scores {test[TUNED]:.3f} there, but validation chose, not the test.)")
    return " ".join(words)


def _why(found: Mapping[str, Any]) -> str:
    judged, kept = found["validation"], found["kept"]
    if TUNED in judged:
        both = f"({judged[TUNED]:.3f} on the validation spots, {judged[HEAD]:.3f} with the head alone tuned)"
        if kept == TUNED:
            return f"Tuning the network helped {both}; it is kept."
        return f"Tuning the network did not help {both}: kept is the network as it was, with its head tuned."
    return "Only the head was tuned, drawn towards the one that the weights bring along."


def _describe_gain(gain: float) -> str:
    if abs(gain) <= NEAR:
        return "no difference"
    return f"fine-tuning helped, by {gain:.3f}" if gain > 0 else f"fine-tuning did not help, it cost {-gain:.3f}"


def markdown(found: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    parts = [f"# Fine-tuning of {base_name(found)}", found["verdict"], "![Scores](report.png)", table(found)]
    parts += ["## Data and split", data_summary(found), "## Protocol", protocol(found)]
    return "\n\n".join(parts) + "\n"


def base_name(found: Mapping[str, Any]) -> str:
    """Return what the weights before are called: their name, or for a local folder its model and digest."""
    base = found["base"]
    if str(base["source"]).startswith(("package://", "hf://")):
        return str(base["name"])
    return f"{found['model']} {base['sha256'][:12]}".strip()


def table(found: Mapping[str, Any]) -> str:
    """Return the scores as a Markdown table, what is kept in bold."""
    rows = ["| on the same test spots | PCC mean | PCC median | |", "|---|---|---|---|"]
    for line in found["lines"]:
        name = f"**{line['name']}**" if line["name"] == found["kept"] else line["name"]
        rows.append(f"| {name} | {line['pcc_mean']:.3f} | {line['pcc_median']:.3f} | {line['note']} |")
    return "\n".join(rows)


def data_summary(found: Mapping[str, Any]) -> str:
    """Return sections, spots and patients of each side."""
    lines = []
    for side in ("train", "validation", "test"):
        pieces = found["split"][side]
        named = ", ".join(
            f"{p['section']} ({p['spots']} spots{', patient ' + p['patient'] if p['patient'] else ''})" for p in pieces
        )
        how = found["split"]["by"].get(side, "")
        lines.append(f"- {side}: {named or 'none'}{f'; held out by {how}' if how not in ('', 'given') else ''}")
    if found["split"]["dropped"]:
        lines.append(f"- left out as a buffer between the sides: {found['split']['dropped']} spots")
    return "\n".join([*lines, *(f"- {note}" for note in found["split"]["notes"])])


def protocol(found: Mapping[str, Any]) -> str:
    """Return how the scores came about."""
    genes, settings = found["genes"], found["settings"]
    new = f"{len(genes['new'])} of them new to the weights" if genes["new"] else "all known to the weights"
    words = [
        f"Heads were fitted for {genes['tuned']} genes ({new}), log1p of counts per 10,000. Scores are Pearson "
        f"correlations over the test spots, mean and median over the {genes['scored']} genes of highest mean.",
        "Heads and controls were fitted on all spots but those of the test; validation spots chose what is kept.",
    ]
    if "parameters" in found:
        p, run, rates = found["parameters"], found["run"], settings["rates"]
        own = "with" if settings["contrast"] else "without"
        batch = f"{settings['accumulate']} x " if settings["accumulate"] > 1 else ""
        batch += str(rates["batch"])
        halved = f" in {run['precision']}" if run["precision"] != "fp32" else ""
        early = ", stopped early" if run["stopped_early"] else ""
        words.append(
            f"Tuned: {settings['tune']}, {p['tuned']:,} of {p['network']:,} parameters, {own} the pretraining "
            f"objective; rate {rates['learning_rate']:g}, {run['steps']} steps of {batch} spots{halved}{early}, "
            f"the best after {run['best_step']}."
        )
    words.append(
        f"Seed {found['seed']}, stzoo {found['stzoo']}. Weights before: sha256 {found['base']['sha256'] or '-'}."
    )
    return " ".join(words)


def write_report(out: Path, found: Mapping[str, Any], plan: Plan, lines: Sequence[Line]) -> None:
    """Write ``report.json``, ``report.md`` and ``report.png``; those of a run that was stopped here are replaced."""
    with writing(out / "report.json", overwrite=True) as scratch:
        scratch.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with writing(out / "report.md", overwrite=True) as scratch:
        scratch.write_text(markdown(found), encoding="utf-8")
    plot_finetuning(found, plan, lines, out / "run", out / "report.png")
