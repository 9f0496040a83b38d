"""What a model says of two sections: one form for every role, so that most checks fit them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stzoo.core.aligner import Aligner
from stzoo.core.conformance.checks import ConformanceError
from stzoo.core.data.section import Section, Stack
from stzoo.core.encoder import Encoder
from stzoo.core.imputer import Imputer
from stzoo.core.model import Model
from stzoo.core.runtime.progress import Progress

Answer = Mapping[str, npt.NDArray[Any]]
"""What was said, by what it is: columns of genes in the order of their names."""

BATCH = 8
"""Spots that an encoder is asked about at a time: fewer than there are, so that its memory is that of a batch."""

EXACT = 0.0
ROUNDING = 1e-3
"""How far two answers may lie apart that should be the same but for rounding, in standard deviations."""

_LAYERS = ("imputed", "confidence")


def answer(model: Model, sections: Sequence[Section], *, progress: Progress | None = None) -> Answer:
    """Ask a model about two sections, through the public methods of its role.

    Returns
    -------
    An encoder: ``prediction`` for the first. An imputer: ``imputed`` and ``confidence`` of each section of their stack.
    An aligner: ``places``, where the spots of the first come to lie on the second, µm.
    """
    first, second = sections
    if isinstance(model, Encoder):
        predicted = model.predict(first, batch_size=BATCH, progress=progress)
        order = np.argsort(np.array(predicted.genes), kind="stable")
        return {"prediction": predicted.values[:, order]}
    if isinstance(model, Imputer):
        done = model.impute(Stack((first, second)), progress=progress)
        return {f"{what} of section {i}": layer(s, what) for i, s in enumerate(done.sections) for what in _LAYERS}
    assert isinstance(model, Aligner)
    return {"places": model.align(first, second, progress=progress).apply(first.um)}


def layer(section: Section, name: str) -> npt.NDArray[Any]:
    """Return a layer of a section, its columns in the order of the names of the genes."""
    order = np.argsort(np.array(section.genes), kind="stable")
    return np.asarray(section.adata.layers[name])[:, order]


def _spread(values: npt.NDArray[Any]) -> float:
    """Return by how much rows differ from one another, at least a thousandth of the values themselves."""
    if not values.size:
        return 1.0
    within = float(np.sqrt(np.nanmean(np.nanvar(values.astype(np.float64), axis=0))))
    return max(within, 1e-3 * float(np.nanmax(np.abs(values), initial=0.0))) or 1.0


def check_same(found: Answer, wanted: Answer, tolerance: float, what: str, todo: str) -> None:
    """Raise a fault where two answers differ.

    Parameters
    ----------
    tolerance
        Largest difference in standard deviations of the wanted values over spots; 0: not a bit.
    what, todo
        For the message: what was done, and what the author can do.
    """
    for key, value in wanted.items():
        other = found[key]
        if other.shape != value.shape:
            raise ConformanceError(f"{what}: {key} has shape {other.shape} instead of {value.shape}", todo)
        if np.array_equal(other, value, equal_nan=True):
            continue
        apart = float(np.nanmax(np.abs(other.astype(np.float64) - value), initial=0.0))
        spread = _spread(value)
        gaps = bool((np.isnan(other) != np.isnan(value)).any())
        if gaps:
            raise ConformanceError(f"{what}: {key} has other gaps", todo)
        if apart > tolerance * spread:
            raise ConformanceError(f"{what}: {key} differs by up to {apart:.3g} (its spread is {spread:.3g})", todo)
