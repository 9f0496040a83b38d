"""Model cards: the README.md of a repository, with the metadata that the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One figure of an evaluation, for the card's ``model-index``.

    Parameters
    ----------
    dataset, split
        What it was measured on, e.g. ``her2st`` and ``C5``.
    metric, value
        Name of the metric (``pcc_mean``) and its value.
    protocol
        Name of the protocol that ``stzoo evaluate`` runs to get it.
    """

    dataset: str
    split: str
    metric: str
    value: float
    protocol: str


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
    figures
        What an evaluation measured; shown in a table and listed in ``model-index``.
    sections
        Heading -> Markdown text, in order: data and its terms, protocol, limits, intended use.
    """

    name: str
    summary: str
    license: str
    base_model: str = ""
    tags: Sequence[str] = ()
    datasets: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    sections: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> str:
        """Return the card as Markdown with YAML metadata."""
        parts = [f"# {self.name}", self.summary.strip()]
        parts += [f"## {heading}\n\n{text.strip()}" for heading, text in self.sections.items()]
        if self.figures:
            parts.append(f"## Figures\n\n{self._table()}")
        return f"---\n{self._metadata()}\n---\n\n" + "\n\n".join(parts) + "\n"

    def _metadata(self) -> str:
        from huggingface_hub import EvalResult, ModelCardData

        results = [
            EvalResult(
                task_type="other",
                task_name="gene expression from histology",
                dataset_type=figure.dataset,
                dataset_name=figure.dataset,
                dataset_split=figure.split,
                metric_type=figure.metric,
                metric_value=figure.value,
                metric_name=f"{figure.metric} ({figure.protocol})",
            )
            for figure in self.figures
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

    def _table(self) -> str:
        head = "| data | split | protocol | metric | value |\n|---|---|---|---|---|"
        rows = [f"| {f.dataset} | {f.split} | `{f.protocol}` | {f.metric} | {f.value:.4g} |" for f in self.figures]
        return "\n".join([head, *rows])
