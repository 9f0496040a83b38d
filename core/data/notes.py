"""The AnnData that readers create: raw counts in float32 CSR, names, and notes on what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stzoo.core.errors import DataError

NOTES = "stzoo_notes"
"""Key of ``uns`` for the reader's notes on how it read the file (shown by ``stzoo data inspect``)."""


def make_adata(x: Any, spots: Sequence[str], genes: Sequence[str], notes: Iterable[str] = ()) -> Any:
    """Create an AnnData of raw counts.

    Parameters
    ----------
    x
        float32 CSR (spots, genes).
    spots, genes
        Names of rows (spots) and columns (genes).
    notes
        Sentences on what was left out.
    """
    from anndata import AnnData
    from pandas import DataFrame, Index

    adata = AnnData(x, obs=DataFrame(index=Index(spots, dtype=str)), var=DataFrame(index=Index(genes, dtype=str)))
    for text in notes:
        note(adata, text)
    return adata


def note(adata: Any, text: str) -> None:
    """Add a sentence to the notes of an AnnData."""
    adata.uns[NOTES] = [*adata.uns.get(NOTES, []), text]


def with_places(adata: Any, places: Any, counts_file: object, places_file: object) -> tuple[Any, Any]:
    """Return counts and positions of the spots that have both, in the order of the counts.

    Parameters
    ----------
    adata
        Counts.
    places
        A DataFrame of positions, indexed by the names of the spots.
    counts_file, places_file
        Their files, for error messages and notes.

    Raises
    ------
    DataError
        No spot has both; the message shows an example of each.
    """
    both = adata.obs_names.isin(places.index)
    if not both.any():
        examples = [f"'{names[0]}'" if len(names) else "none" for names in (adata.obs_names, places.index)]
        raise DataError(
            f"none of the {adata.n_obs} spots with counts (e.g. {examples[0]}) is among the {len(places)} spots with a"
            f" position in tissue (e.g. {examples[1]})",
            where=f"{counts_file} and {places_file}",
            todo="check that both files belong to one section",
        )
    if not both.all():
        note(
            adata,
            f"{int((~both).sum())} of {adata.n_obs} spots with counts left out: not among the positions in tissue",
        )
        adata = adata[both].copy()
    return adata, places.loc[adata.obs_names]


def list_names(names: Iterable[str], most: int = 3) -> str:
    """Join the first names with commas; an ellipsis stands for the rest."""
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
