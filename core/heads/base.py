"""What heads share: which genes they know, and how they are saved with the model that carries them.

A model with heads needs one line in each of its hooks::

    def state(self): return own_tensors | head_tensors(self.fitted_heads)
    def description(self): return {..., "heads": head_descriptions(self.fitted_heads)}
    def restore(self, state, description, assets): state = take_heads(self, state, description); ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from stzoo.core.arrays import Array, Floats
from stzoo.core.discovery.manager import default_manager
from stzoo.core.encoder import Encoder, Head, head_class
from stzoo.core.errors import GeneError, UsageError, WeightsError, nearest
from stzoo.core.specs import HeadSpec

if TYPE_CHECKING:
    import torch


PREFIX = "heads."
SCORED = 250
"""Of those, as many of highest mean are learned by the network, and scored."""


def gene_columns(known: Sequence[str], genes: Sequence[str] | None) -> tuple[tuple[str, ...], list[int]]:
    """Return the genes wanted (all for None) and their columns.

    Raises
    ------
    GeneError
        A gene is not known (the nearest name is given).
    """
    if genes is None:
        return tuple(known), list(range(len(known)))
    place = {gene: column for column, gene in enumerate(known)}
    missing = [gene for gene in genes if gene not in place]
    if missing:
        shown = ", ".join(f"'{gene}'" for gene in missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise GeneError(
            f"the head was not fitted for {shown}{nearest(missing[0], known)}",
            where=f"it knows {len(known)} genes",
            todo="choose among them, or fit the head for these genes on sections that have them",
        )
    return tuple(genes), [place[gene] for gene in genes]


def check_embedding(embedding: Floats, width: int) -> Floats:
    """Return the embedding as float32 (n, width), or say that it is of another encoder."""
    embedding = np.asarray(embedding, dtype=np.float32)
    if embedding.ndim != 2 or embedding.shape[1] != width:
        raise UsageError(f"the embedding has shape {embedding.shape}, the head was fitted on (n, {width})")
    return embedding


def head_tensors(heads: Mapping[str, Head]) -> dict[str, torch.Tensor]:
    """Return the tensors of all heads under ``heads.NAME.*`` (for ``Model.state``)."""
    import torch

    return {
        f"{PREFIX}{name}.{key}": torch.from_numpy(np.ascontiguousarray(value))
        for name, head in heads.items()
        for key, value in head.tensors().items()
    }


def head_descriptions(heads: Mapping[str, Head]) -> dict[str, Any]:
    """Return what ``Model.description()["heads"]`` says of all heads."""
    return {name: head.description() for name, head in heads.items()}


def take_heads(
    model: Encoder, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Give a model the heads that were saved with it.

    Returns
    -------
    The tensors that are left: those of the model itself.

    Raises
    ------
    WeightsError
        A head of an unknown kind, a tensor missing or left over, or of the wrong shape.
    """
    rest = {key: value for key, value in state.items() if not key.startswith(PREFIX)}
    described: Mapping[str, Any] = description.get("heads", {})
    installed = [spec.name for _, spec in default_manager().specs_of(HeadSpec)]
    known = tuple(f"{PREFIX}{name}." for name in described)
    stray = [key for key in state if key.startswith(PREFIX) and not key.startswith(known or ("\0",))]
    if stray or not set(described) <= set(installed):
        unknown = stray[:1] or sorted(set(described) - set(installed))
        raise WeightsError(
            f"'{unknown[0]}' belongs to no head that is installed",
            where=f"heads: {installed}",
            todo="install the plugin that offers it",
        )
    heads: dict[str, Head] = {}
    for name, values in described.items():
        own = {
            key.removeprefix(f"{PREFIX}{name}."): np.asarray(tensor.detach().cpu().numpy())
            for key, tensor in state.items()
            if key.startswith(f"{PREFIX}{name}.")
        }
        heads[name] = head_class(name).restored(own, values)
    model.fitted_heads.clear()
    model.fitted_heads.update(heads)
    return rest


def check_tensors(tensors: Mapping[str, Array], shapes: Mapping[str, tuple[int | None, ...]], head: str) -> None:
    """Refuse tensors of a head that are missing, left over, or of another shape (None: any length).

    Raises
    ------
    WeightsError
        Which one, and what was expected.
    """
    wrong = sorted(set(tensors) ^ set(shapes))
    if wrong:
        state = "missing" if wrong[0] in shapes else "left over"
        raise WeightsError(f"tensor '{PREFIX}{head}.{wrong[0]}' is {state}", todo="save the model again")
    for key, expected in shapes.items():
        found = tensors[key].shape
        fits = len(found) == len(expected) and all(e in (None, f) for e, f in zip(expected, found, strict=True))
        if not fits or not np.isfinite(tensors[key].astype(np.float32)).all():
            raise WeightsError(f"tensor '{PREFIX}{head}.{key}' is {found} or not finite, expected {expected}")
