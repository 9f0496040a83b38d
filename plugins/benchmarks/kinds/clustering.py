"""Protocols of kind ``clustering``: k-means of frozen embeddings against labels of the tissue."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo import Column, DataError, Protocol, Row, Section, Task, UsageError
from stzoo.core.evaluation.models import Models
from stzoo.core.evaluation.task import Metrics


@dataclass
class ClusteringProtocol(Protocol):
    """Cluster the spots of each section by their embedding; nothing is trained.

    Parameters
    ----------
    sections
        Those that are not in the data folder are left out, and named.
    label
        Column of ``obs`` with the labels; spots labelled ``NA`` or not at all are clustered, but not scored.
    """

    sections: list[str] = field(default_factory=list)
    label: str = "layer"


class Clustering(Task):
    """Adjusted Rand index of k-means, with as many clusters as the section has labels.

    ``head: image_vectors`` clusters these (unit length) instead of the embedding. Controls: ``coordinates``, positions
    only; ``expression``, 20 principal components of log-normalised expression, which no image model sees.
    """

    schema = ClusteringProtocol
    part = "section"
    columns = (Column("ari", "ARI", 3), Column("k", "k", 0), Column("n", "spots", 0))
    controls = ("coordinates", "expression")

    def __init__(self, protocol: ClusteringProtocol, data: Path, models: Models) -> None:
        super().__init__(protocol, data, models)
        self.sections = self.read_available(protocol.sections)
        self.labels = [_labels(section, protocol.label) for section in self.sections]
        self._clustered: dict[tuple[str, str], npt.NDArray[Any]] = {}

    def conditions(self) -> str:
        """Return sections and labels."""
        return f"sections {', '.join(s.name for s in self.sections)}; labels obs['{self.protocol.label}']"

    def is_random(self, row: Row) -> bool:
        """Say yes: k-means starts at random."""
        return True

    def score(self, row: Row, seed: int) -> dict[str, Metrics]:
        """Return the index of each section and their mean (see :class:`Task`)."""
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score

        found: dict[str, Metrics] = {}
        for section, labels in zip(self.sections, self.labels, strict=True):
            known = labels != ""
            k = len(set(labels[known]))
            if (row.name, section.name) not in self._clustered:  # the same points for every seed
                self._clustered[row.name, section.name] = self._points(row, section)
            points = self._clustered[row.name, section.name]
            clusters = KMeans(k, n_init=10, random_state=seed).fit_predict(points)
            ari = float(adjusted_rand_score(labels[known], clusters[known]))
            found[section.name] = {"ari": ari, "k": k, "n": int(known.sum())}
        return {"overall": {"ari": float(np.mean([metrics["ari"] for metrics in found.values()]))}, **found}

    def _points(self, row: Row, section: Section) -> npt.NDArray[Any]:
        if row.control == "coordinates":
            return section.um
        if row.control == "expression":
            from sklearn.decomposition import PCA

            values = section.expression(target=self.protocol.target)
            return np.asarray(PCA(min(20, *values.shape), random_state=0).fit_transform(values))
        if not (row.model or row.weights):
            raise UsageError(f"row '{row.name}' has neither model nor control", todo=f"controls: {self.controls}")
        encoder = self.models.encoder(row, self.protocol.seeds[0])
        if row.head == "image_vectors":
            vectors = encoder.image_vectors(section)
            return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
        return encoder.embed(section)


def _labels(section: Section, column: str) -> npt.NDArray[np.str_]:
    """Return the label of each spot, empty where there is none."""
    if column not in section.adata.obs:
        raise DataError(
            f"section '{section.name}' has no obs['{column}'], the labels",
            where=section.source or None,
            todo="name another column with 'label'",
        )
    values = section.adata.obs[column]
    labels = np.where(values.isna(), "", values.astype(str))
    return np.where(labels == "NA", "", labels)
