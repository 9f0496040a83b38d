"""Model cards: the README.md of a repository, with the metadata that the Hub reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stzoo.core.errors import UsageError

FEW_PARTS = 2
"""Reports with more parts (gene sets, families, sections) show only the first in a card: the one over all."""


@dataclass(frozen=True)
class CardScore:
    """One score of an evaluation.

    Parameters
    ----------
    dataset, split
        What it was measured on, e.g. ``her2st`` and ``C5``.
    metric, value
        Name of the metric (``pcc_mean``) and its value.
    protocol
        Name of the protocol that ``stzoo evaluate`` runs to get it.
    row, part
        Row and part (gene set, family, section) of the protocol's table.
    shown
        How the table prints it, with its spread over seeds; by default four digits.
    own
        It was measured on this model, and belongs to the card's ``model-index``; baselines stand in the table only.
    about
        What was asked, on which data, and how to read it: printed once above the table.
    command
        What made it, by default ``stzoo evaluate PROTOCOL``.
    """

    dataset: str
    split: str
    metric: str
    value: float
    protocol: str
    row: str = ""
    part: str = ""
    shown: str = ""
    own: bool = True
    about: str = ""
    command: str = ""


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Parameters
    ----------
    name, summary
        Name of the weights and one paragraph.
    license
        SPDX identifier of the weights, e.g. ``Apache-2.0``.
    base_model
        Hub name of the weights they were fine-tuned from, or empty.
    tags, datasets
        For the Hub's search.
    scores
        What evaluations measured (:func:`scores_from`): a table for each protocol, the model's own ones bold and
        listed in ``model-index``.
    sections
        Heading -> Markdown text, in order: data and its terms, protocol, limits, intended use.
    """

    name: str
    summary: str
    license: str
    base_model: str = ""
    tags: Sequence[str] = ()
    datasets: Sequence[str] = ()
    scores: Sequence[CardScore] = ()
    sections: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> str:
        """Return the card as Markdown with YAML metadata."""
        parts = [f"# {self.name}", self.summary.strip()]
        parts += [f"## {heading}\n\n{text.strip()}" for heading, text in self.sections.items()]
        if self.scores:
            parts.append("## Scores")
        for protocol in dict.fromkeys(score.protocol for score in self.scores):
            parts += _evaluation([score for score in self.scores if score.protocol == protocol])
        return f"---\n{self._metadata()}\n---\n\n" + "\n\n".join(parts) + "\n"

    def _metadata(self) -> str:
        from huggingface_hub import EvalResult, ModelCardData

        results = [
            EvalResult(
                task_type="other",
                task_name="gene expression from histology",
                dataset_type=score.dataset,
                dataset_name=score.dataset,
                dataset_split=score.split,
                metric_type=score.metric,
                metric_value=score.value,
                metric_name=", ".join(t for t in (score.metric, score.part, score.row, score.protocol) if t),
            )
            for score in self.scores
            if score.own
        ]
        data = ModelCardData(
            model_name=self.name,
            license=self.license.lower(),
            library_name="stzoo",
            base_model=self.base_model or None,
            tags=["spatial-transcriptomics", *self.tags],
            datasets=list(self.datasets) or None,
            eval_results=results or None,
        )
        return str(data.to_yaml())


def describe_choice(validated: Mapping[str, Any]) -> dict[str, str]:
    """Return the section of a card on how validation chose the weights (``Model.validated``), or none."""
    if not validated:
        return {}
    where, watched = ", ".join(validated["sections"]), validated["watched"]
    scores = {name: f"{value:.3f}" for name, value in validated["figures"].items()}
    best = scores.pop(watched)
    beside = f" ({', '.join(' '.join(one) for one in scores.items())})" if scores else ""
    ended = f"; the run ended early, after {validated['steps']}" if validated["steps"] < validated["planned"] else ""
    whose = ", though from a patient that was" if validated["same_patient"] else ""
    text = (
        f"Kept: the weights after step {validated['step']} of {validated['planned']}{ended}. They have the highest "
        f"{watched} on {where}: {best}{beside}. {where} was not learned from{whose}; it chose the weights, so scores "
        "on it flatter: test on another section."
    )
    return {"Chosen by validation": text}


def scores_from(
    report: Mapping[str, Any], *rows: str, recipe: str = "", parts: Sequence[str] | None = None
) -> list[CardScore]:
    """Return the scores of an evaluation for the card of a model, baselines beside them.

    Parameters
    ----------
    report
        What ``stzoo evaluate --json`` wrote.
    rows
        Names of the rows that measured this model; the others are shown as what they are: baselines.
    recipe
        Instead of names: the recipe (or packaged weights) of this model. Its rows are those without overrides.
    parts
        Parts that are shown; by default all of at most two, or else the first, which is over all.

    Raises
    ------
    UsageError
        No row of the report measured this model.
    """
    from stzoo.core.evaluation.run import cell

    protocol, scores = report["protocol"], report["scores"]
    own = set(rows) | {row["name"] for row in protocol["rows"] if recipe and _is_of(row, recipe)}
    known = list(dict.fromkeys(score["part"] for score in scores))
    wanted = parts if parts is not None else known if len(known) <= FEW_PARTS else known[:1]
    if not own & {score["row"] for score in scores}:
        raise UsageError(
            f"no row of '{protocol['name']}' measured {', '.join(rows) or repr(recipe)}",
            where=f"rows: {', '.join(dict.fromkeys(score['row'] for score in scores))}",
            todo="name its rows, or evaluate a protocol that has some",
        )
    dataset, split = _data(protocol.get("test") or protocol.get("sections") or [])
    about = [f"{protocol['question']} {report['conditions'].strip()}.", protocol.get("warning", "").strip()]
    return [
        CardScore(
            dataset=dataset,
            split=split,
            metric=name,
            value=score["figures"][name],
            protocol=protocol["name"],
            row=score["row"],
            part=part,
            shown=cell(score, name, digits),
            own=score["row"] in own,
            about="\n\n".join(text for text in about if text),
        )
        for part in wanted
        for score in scores
        if score["part"] == part
        for name, _, digits in report["columns"]
        if name in score["figures"]
    ]


def _is_of(row: Mapping[str, Any], recipe: str) -> bool:
    changed = row.get("overrides") or row.get("untrained") or row.get("control")
    return not changed and recipe in (Path(row["recipe"]).stem, row["weights"])


def _data(sources: Sequence[str]) -> tuple[str, str]:
    """Return the first folder and the names of the sections: ``her2st``, ``C5``."""
    from stzoo.core.io.read import split_source

    pairs = [split_source(source) for source in sources]
    folders = [path.parts[0] for path, _ in pairs]
    return (folders[0] if folders else ""), ", ".join(section or path.stem for path, section in pairs)


def _evaluation(scores: Sequence[CardScore]) -> Iterable[str]:
    """Yield heading, conditions and table of one protocol's scores."""
    first = scores[0]
    yield f"### {first.dataset} {first.split}: `{first.command or f'stzoo evaluate {first.protocol}'}`"
    if first.about:
        yield first.about
    metrics = list(dict.fromkeys(score.metric for score in scores))
    lines = ["| | | " + " | ".join(metrics) + " |", "|---|---|" + "---|" * len(metrics)]
    for part, row in dict.fromkeys((score.part, score.row) for score in scores):
        cells = {f.metric: f for f in scores if (f.part, f.row) == (part, row)}
        bold = "**" if row and next(iter(cells.values())).own else ""
        texts = [(cells[m].shown or f"{cells[m].value:.4g}") if m in cells else "" for m in metrics]
        lines.append(f"| {bold}{row}{bold} | {part} | " + " | ".join(texts) + " |")
    yield "\n".join(lines)
