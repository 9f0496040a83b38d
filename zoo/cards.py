"""Model cards: the README.md of a repository, with the metadata that the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Parameters
    ----------
    name, summary
        Name of the weights and one paragraph.
    license
        SPDX identifier of the weights.
    tags, datasets
        For the Hub's search.
    sections
        Heading -> Markdown text, in order: data and its terms, protocol, figures, limits, intended use.
    """

    name: str
    summary: str
    license: str
    tags: Sequence[str] = ()
    datasets: Sequence[str] = ()
    sections: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> str:
        """Return the card as Markdown with YAML metadata."""
        from huggingface_hub import ModelCardData

        data = ModelCardData(
            license=self.license.lower(),
            library_name="stzoo",
            tags=["spatial-transcriptomics", *self.tags],
            datasets=list(self.datasets) or None,
        )
        body = "\n\n".join(f"## {heading}\n\n{text.strip()}" for heading, text in self.sections.items())
        return f"---\n{data.to_yaml()}\n---\n\n# {self.name}\n\n{self.summary.strip()}\n\n{body}\n"
