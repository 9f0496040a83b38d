"""Heads: from an embedding to expression. Fitted on measured spots only, saved with the model that carries them.

A model with heads needs one line in each of its hooks::

    def state(self): return own_tensors | head_tensors(self.fitted_heads)
    def description(self): return {..., "heads": head_descriptions(self.fitted_heads)}
    def restore(self, state, description, assets): state = take_heads(self, state, description); ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Array, Floats
from stzoo.core.data.section import Section
from stzoo.core.encoder import Encoder, Prediction
from stzoo.core.errors import DataError, GeneError, UsageError, WeightsError, nearest

if TYPE_CHECKING:
    import torch


PREFIX = "heads."
TARGET = 1e4
"""Expression is log1p of counts per this many."""


class Head(Protocol):
    """What predicts expression from an embedding."""

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes it predicts, in the order of its columns."""
        ...

    def predict(self, embedding: Floats, genes: Sequence[str] | None = None) -> Prediction:
        """Predict expression.

        Parameters
        ----------
        embedding
            float32 (n, d).
        genes
            Genes wanted; by default all.

        Raises
        ------
        GeneError
            A gene that the head was not fitted for.
        """
        ...

    def tensors(self) -> dict[str, Array]:
        """Return its arrays by name."""
        ...

    def description(self) -> dict[str, Any]:
        """Return its genes and settings as JSON values."""
        ...

    @classmethod
    def restored(cls, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> Self:
        """Make a head of what :meth:`tensors` and :meth:`description` returned."""
        ...


def head_classes() -> dict[str, type[Head]]:
    """Return the heads there are, by name."""
    from stzoo.core.heads.mlp import MLPHead
    from stzoo.core.heads.retrieval import RetrievalHead
    from stzoo.core.heads.ridge import RidgeHead

    return {"ridge": RidgeHead, "mlp": MLPHead, "retrieval": RetrievalHead}


def fit_head(encoder: Encoder, sections: Sequence[Section], genes: Sequence[str] | None, head: str) -> Head:
    """Fit a head on the measured spots of some sections.

    Parameters
    ----------
    encoder
        Embeds the sections; it stays as it is. Its seed is that of a head with something random in it.
    sections
        Sections with slides and counts; spots without counts are left out.
    genes
        Genes to predict; by default all that every section has.
    head
        ``ridge``, ``mlp`` or ``retrieval``.

    Raises
    ------
    UsageError
        There is no such head, no section, or no gene.
    DataError
        No section has a measured spot with counts.
    """
    from stzoo.core.heads.mlp import fit_mlp
    from stzoo.core.heads.retrieval import fit_retrieval
    from stzoo.core.heads.ridge import fit_ridge

    seeded = partial(fit_mlp, seed=encoder.seed)
    fitters: dict[str, Callable[..., Head]] = {"ridge": fit_ridge, "mlp": seeded, "retrieval": fit_retrieval}
    if head not in fitters:
        raise UsageError(f"there is no head '{head}' to fit{nearest(head, fitters)}", where=f"heads: {list(fitters)}")
    embedding, expression, group, names = training_data(encoder, sections, genes)
    return fitters[head](embedding, expression, group, names)


def training_data(
    encoder: Encoder, sections: Sequence[Section], genes: Sequence[str] | None
) -> tuple[Floats, Floats, npt.NDArray[np.intp], tuple[str, ...]]:
    """Return embedding (n, d), expression (n, g), section number (n,) of all usable spots, and the genes."""
    if not sections:
        raise UsageError("no section to fit a head on", todo="give at least one section with a slide and counts")
    if genes is None:
        shared = set.intersection(*(set(section.genes) for section in sections))
        genes = [gene for gene in sections[0].genes if gene in shared]
    if not genes:
        raise UsageError("no gene to fit a head for", todo="check that the sections name their genes the same way")
    embeddings, expressions, groups = [], [], []
    for number, section in enumerate(sections):
        usable = section.measured & (np.nan_to_num(section.depth) > 0)
        embeddings.append(np.asarray(encoder.embed(section), dtype=np.float32)[usable])
        expressions.append(section.expression(genes, target=TARGET)[usable])
        groups.append(np.full(int(usable.sum()), number, dtype=np.intp))
    group = np.concatenate(groups)
    if len(group) < 2:
        raise DataError(
            f"{len(group)} measured spots with counts in {len(sections)} sections, a head needs at least 2",
            where=", ".join(section.name for section in sections),
        )
    return np.concatenate(embeddings), np.concatenate(expressions), group, tuple(genes)


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
    classes = head_classes()
    known = tuple(f"{PREFIX}{name}." for name in described)
    stray = [key for key in state if key.startswith(PREFIX) and not key.startswith(known or ("\0",))]
    if stray or not set(described) <= set(classes):
        unknown = stray[:1] or sorted(set(described) - set(classes))
        raise WeightsError(f"'{unknown[0]}' belongs to no head that this stzoo knows", where=f"heads: {list(classes)}")
    heads: dict[str, Head] = {}
    for name, values in described.items():
        own = {
            key.removeprefix(f"{PREFIX}{name}."): np.asarray(tensor.detach().cpu().numpy())
            for key, tensor in state.items()
            if key.startswith(f"{PREFIX}{name}.")
        }
        heads[name] = classes[name].restored(own, values)
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
