"""Gene panels: matching requested genes to those of a section, by symbol or Ensembl id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stzoo.core.arrays import Floats, Indices
from stzoo.core.errors import GeneError, nearest

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
_OTHER_NAMES = (
    *("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id"),
    *("gene_symbols", "gene_symbol", "gene_name", "gene_names", "symbol", "feature_name"),
)


@dataclass(frozen=True)
class GenePanel:
    """Result of matching a list of requested genes to the data.

    Parameters
    ----------
    found
        Requested name -> name in the data.
    missing
        Requested genes that are not in the data.
    unused
        Genes of the data that were not requested (for a model: genes unseen in training).
    ambiguous
        Requested genes that match several rows of ``var``; ``found`` has the first of them.
    """

    found: dict[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    ambiguous: tuple[str, ...] = ()

    def report(self) -> str:
        """Return a one-line summary."""
        parts = [f"{len(self.found)} genes found, {len(self.missing)} missing, {len(self.unused)} unused"]
        for what, names in (("missing", self.missing), ("ambiguous, first taken", self.ambiguous)):
            if names:
                parts.append(f"{what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
        return "; ".join(parts)

    def require_all(self, where: object = None) -> GenePanel:
        """Return the panel; raise an error if genes are missing.

        Parameters
        ----------
        where
            File or section for the error message.

        Raises
        ------
        GeneError
            Names the missing genes and the closest names in the data.
        """
        if self.missing:
            known = [*self.found.values(), *self.unused]
            shown = ", ".join(f"'{gene}'" for gene in self.missing[:5]) + (" ..." if len(self.missing) > 5 else "")
            raise GeneError(
                f"no gene {shown}{nearest(self.missing[0], known)}",
                where=where,
                todo="check the names (their case counts), or leave them out",
            )
        return self


def match_genes(wanted: Sequence[str], var: Any) -> GenePanel:
    """Match requested genes to those of a section.

    Parameters
    ----------
    wanted
        Symbols or Ensembl ids (a version suffix such as ``.2`` is ignored), without duplicates.
    var
        The ``var`` table of an AnnData. Its index gives the names; if it has both ids and symbols, either matches.

    Raises
    ------
    GeneError
        A gene is requested twice, under the same name or under two names.
    """
    twice = sorted(gene for gene, times in Counter(wanted).items() if times > 1)
    if twice:
        raise GeneError(f"genes wanted more than once: {', '.join(twice[:5])}", todo="name each gene once")
    names = [str(name) for name in var.index]
    exact = set(names)
    others = _other_names(names, var)
    found: dict[str, str] = {}
    ambiguous = []
    for gene in wanted:
        rows = [gene] if gene in exact else others.get(_bare(gene), [])
        if rows:
            found[gene] = rows[0]
        if len(rows) > 1:
            ambiguous.append(gene)
    _refuse_synonyms(found)
    taken = set(found.values())
    return GenePanel(
        found=found,
        missing=tuple(gene for gene in wanted if gene not in found),
        unused=tuple(name for name in names if name not in taken),
        ambiguous=tuple(ambiguous),
    )


def _other_names(names: list[str], var: Any) -> dict[str, list[str]]:
    others: dict[str, list[str]] = {}
    columns = [names, *(var[column].astype(str) for column in _OTHER_NAMES if column in var)]
    for column in columns:
        for other, name in zip(column, names, strict=True):
            rows = others.setdefault(_bare(other), [])
            if name not in rows:
                rows.append(name)
    return others


def _refuse_synonyms(found: dict[str, str]) -> None:
    first: dict[str, str] = {}
    for gene, name in found.items():
        if name in first:
            raise GeneError(
                f"'{first[name]}' and '{gene}' are one gene of the data ('{name}')", todo="name each gene once"
            )
        first[name] = gene


def _bare(name: str) -> str:
    return name.split(".")[0] if _ENSEMBL.fullmatch(name) else name


def top_genes(values: Floats, count: int, *, by_variance: bool = False) -> Indices:
    """Return the columns of the genes with the highest mean (or variance) over rows, highest first, intp (count,).

    Parameters
    ----------
    values
        float32 (n, g).
    """
    score = values.var(axis=0) if by_variance else values.mean(axis=0)
    return np.argsort(-score, kind="stable")[:count]
