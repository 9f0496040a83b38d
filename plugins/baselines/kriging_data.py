"""What kriging takes from a stack: places, centred expression of the measured spots, principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist
from stzoo.core.gp.kernels import Indices, Matrix, Places
from stzoo.core.gp.noise import relative_noise
from stzoo.core.interfaces import Encoder
from stzoo.core.measured import informative
from stzoo.core.section import Floats, Section, Stack
from stzoo.plugins.baselines.local import Surroundings


@dataclass(frozen=True)
class Scene:
    """All spots of a stack, one after the other, in the frame of the first section.

    Parameters
    ----------
    places, measured
        Of every spot of every section.
    hidden
        Indices of the spots to predict.
    seen
        Places of the measured spots that have counts, in an order that does not depend on how they came.
    y
        float32 (n_seen, g), expression of these with section means removed.
    means
        float32 (sections, g), the section means.
    floor
        float32 (g,), predictions are not let below: the lowest measured value, or 0 if that is higher.
    spacing, extent
        Median distance of nearest measured spots of a section, and the longer side of the whole, µm.
    """

    places: Places
    measured: npt.NDArray[np.bool_]
    hidden: Indices
    seen: Places
    y: Floats
    means: Floats
    floor: Floats
    spacing: float
    extent: float

    @classmethod
    def of(cls, stack: Stack, values: Sequence[Floats], *, encoder: Encoder | None, depth: bool) -> Scene:
        """Gather a stack; with an encoder image features join the places, with ``depth`` the noise of each spot."""
        sizes = [len(section) for section in stack.sections]
        um = np.concatenate([stack.um(i) for i in range(len(stack))])
        number = np.repeat(np.arange(len(stack)), sizes)
        known = np.concatenate([informative(section) for section in stack.sections])
        index = np.flatnonzero(known)
        index = index[np.lexsort((um[index, 1], um[index, 0], number[index]))]
        features = None
        if encoder is not None:
            features = _features(stack.sections, encoder, index)
        places = Places(um, number, features)
        y = np.concatenate(list(values))[index]
        means = np.stack([y[number[index] == i].mean(axis=0, dtype=np.float64) for i in range(len(stack))])
        floor = np.minimum(y.min(axis=0), 0.0)
        y = (y - means[number[index]]).astype(np.float32)
        y[:, np.abs(y).max(axis=0) < 1e-6] = 0.0  # rounding of a mean is no variation
        measured = np.concatenate([section.measured for section in stack.sections])
        spacing = min(Surroundings.of(s, v[:, :0]).spacing() for s, v in zip(stack.sections, values, strict=True))
        extent = float(np.ptp(um, axis=0).max())
        seen = places.take(index)
        if depth:
            depths = np.concatenate([section.depth for section in stack.sections])[index]
            seen = replace(seen, noise=relative_noise(np.maximum(depths, 1e-9)))
        hidden = np.flatnonzero(~measured)
        return cls(places, measured, hidden, seen, y, means.astype(np.float32), floor, spacing, extent)


def _features(sections: Sequence[Section], encoder: Encoder, seen: Indices) -> Matrix:
    """Embed every spot; standardise within each section (stains differ), and scale to typical distances of 1."""
    parts = []
    for section in sections:
        part = np.asarray(encoder.embed(section), dtype=np.float64)
        spread = part.std(axis=0)
        parts.append(np.divide(part - part.mean(axis=0), spread, out=np.zeros_like(part), where=spread > 0))
    features = np.concatenate(parts)
    sample = features[seen[np.unique(np.linspace(0, len(seen) - 1, 500).astype(int))]]
    typical = float(np.median(pdist(sample))) if len(sample) > 1 else 0.0
    return features / typical if typical > 0 else features


def encoder_of(name: str, *, device: str, seed: int) -> Encoder:
    """Return an encoder by the name of a model that needs no weights, or a folder with weights."""
    from stzoo.core.registry import model, model_class
    from stzoo.core.repository import open_repository

    made: Encoder
    if not (Path(name) / "config.json").is_file():
        made = model(name, device=device, seed=seed, role="encoder")
        return made
    with open_repository(Path(name)) as repository:
        method = repository.method
    loaded = model_class(method, role="encoder").load(name, device=device)
    assert isinstance(loaded, Encoder)  # model_class has checked the role
    return loaded
