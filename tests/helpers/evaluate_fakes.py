"""Encoders that know the answer, or do not: what a protocol must tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder, Prediction


@dataclass
class FakeConfig:
    """Nothing to choose."""


class Oracle(Encoder):
    """Knows the expression of whole sections, which it was given, by their names; records what it is shown."""

    name = "oracle"
    config_class = FakeConfig
    heads = ("ridge", "retrieval", "zero-shot")
    embedding_dim = 3

    def __init__(self, *sections: Section, one_map: bool = False) -> None:
        super().__init__()
        self.known = {section.name: section for section in sections}
        self.one_map = one_map
        self.embedded: list[str] = []
        self.fitted_on: list[Section] = []
        self.asked: list[Section] = []

    def embed(self, section: Section, **options: Any) -> Floats:
        """Return the region of each spot, one-hot."""
        self.embedded.append(section.name)
        region = np.asarray(self.known[section.name].adata.obs["region"])[:, None]
        return np.asarray(region == ["stroma", "tumour", "immune"], dtype=np.float32)

    def fit(self, sections: Sequence[Section], genes: Sequence[str] | None = None, *, head: str = "ridge") -> Oracle:
        self.fitted_on += sections
        super().fit(sections, genes, head=head)
        return self

    def predict(self, section: Section, genes: Sequence[str] | None = None, **options: Any) -> Prediction:
        if options["head"] != "zero-shot":
            return super().predict(section, genes, **options)
        assert genes is not None
        self.asked.append(section)
        values = self.known[section.name].expression(genes, target=1e4)
        if self.one_map:
            values = np.repeat(values.mean(axis=1, keepdims=True), len(genes), axis=1)
        return Prediction(values, tuple(genes), "zero-shot")


class Shared(Oracle):
    """Has a space that images and expression share, in which the two of a spot coincide."""

    def image_vectors(self, section: Section) -> Floats:
        self.asked.append(section)
        return np.random.default_rng(0).standard_normal((section.n_spots, 64)).astype(np.float32)

    def expression_vectors(self, section: Section) -> Floats:
        assert section.measured.all()
        return 3 * np.random.default_rng(0).standard_normal((section.n_spots, 64)).astype(np.float32)
