"""Image features of the spots of several sections, from any encoder plugin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.spatial.distance import pdist
from stzoo.core.arrays import Doubles, Floats
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder
from stzoo.core.registry import model, model_class
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.weights.repository import open_repository

E = TypeVar("E", bound=Encoder)


def encoder_of(name: str, *, device: str, seed: int) -> Encoder:
    """Return an encoder, given the name of a model that needs no weights or a folder with weights."""
    made: Encoder
    if not (Path(name) / "config.json").is_file():
        made = model(name, device=device, seed=seed, role="encoder")
        return made
    with open_repository(Path(name)) as repository:
        method = repository.method
    loaded = model_class(method, role="encoder").load(name, device=device)
    assert isinstance(loaded, Encoder)  # model_class has checked the role
    return loaded


def section_features(
    sections: Sequence[Section], encoder: Encoder, *, within: bool = True, ranks: Ranks = ALONE
) -> Doubles:
    """Embed every spot of all sections, float64 (n, d), each feature standardised to mean 0 and variance 1.

    Parameters
    ----------
    within
        Standardise within each section, since stains differ; otherwise over all sections together.
    ranks
        Processes that share the sections; all call this.
    """
    embedded = ranks.map_jobs(len(sections), lambda number: encoder.embed(sections[number]))
    parts = [np.asarray(part, dtype=np.float64) for part in embedded]
    if within:
        return np.concatenate([_standardise(part) for part in parts])
    return _standardise(np.concatenate(parts))


def typical_distance(features: Doubles) -> float:
    """Return the median pairwise distance of (at most 500) rows; 1 if all are identical."""
    sample = features[np.unique(np.linspace(0, len(features) - 1, 500).astype(int))]
    typical = float(np.median(pdist(sample))) if len(sample) > 1 else 0.0
    return typical if typical > 0 else 1.0


def _standardise(part: Doubles) -> Doubles:
    spread = part.std(axis=0)
    scaled: Doubles = np.divide(part - part.mean(axis=0), spread, out=np.zeros_like(part), where=spread > 0)
    return scaled


def cache_embeddings(encoder: E) -> E:
    """Make an encoder cache embeddings, so that the same spots of a slide are embedded once (counts play no part)."""
    embed, seen = encoder.embed, dict[tuple[int, bytes], tuple[object, Floats]]()

    def embed_once(section: Section, **options: Any) -> Floats:
        key = (id(section.slide), section.pixels.tobytes() if section.slide else b"")
        if section.slide is None or key not in seen:
            seen[key] = (section.slide, embed(section, **options))  # holds the slide, so its id stays unique
        return seen[key][1]

    vars(encoder)["embed"] = embed_once
    return encoder
