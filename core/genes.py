"""Gene panels: which wanted genes a section has, by symbol or by Ensembl id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stzoo.core.errors import GeneError, nearest

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id")
_SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "gene_name", "gene_names", "symbol", "feature_name")


@dataclass(frozen=True)
class GenePanel:
    """What became of a list of wanted genes.

    Parameters
    ----------
    found
        Wanted name -> name in the data.
    missing
        Wanted genes that the data do not have.
    unseen
        Genes of the data that nobody wanted (for a model: genes it never saw in training).
    """

    found: dict[str, str]
    missing: tuple[str, ...]
    unseen: tuple[str, ...]

    def report(self) -> str:
        """Return one line for people."""
        shown = ", ".join(self.missing[:5]) + (" ..." if len(self.missing) > 5 else "")
        lost = f"; missing: {shown}" if self.missing else ""
        return f"{len(self.found)} genes found, {len(self.missing)} missing, {len(self.unseen)} unseen{lost}"

    def require_all(self, where: object = None) -> GenePanel:
        """Return the panel, or refuse missing genes.

        Raises
        ------
        GeneError
            Naming the missing genes and the nearest name of the data.
        """
        if self.missing:
            known = [*self.found.values(), *self.unseen]
            shown = ", ".join(f"'{gene}'" for gene in self.missing[:5])
            raise GeneError(
                f"no gene {shown}{hint(self.missing[0], known)}", where=where, todo="check the names, or leave them out"
            )
        return self


def match_genes(wanted: Sequence[str], var: Any) -> GenePanel:
    """Match wanted genes to those of a section.

    Parameters
    ----------
    wanted
        Symbols or Ensembl ids (a version suffix is ignored), without repeats.
    var
        The ``var`` table of an AnnData; ids and symbols are translated where it carries both.

    Raises
    ------
    GeneError
        A gene is wanted twice.
    """
    twice = sorted({gene for gene in wanted if list(wanted).count(gene) > 1}) if len(set(wanted)) < len(wanted) else []
    if twice:
        raise GeneError(f"genes wanted more than once: {', '.join(twice[:5])}", todo="name each gene once")
    names = [str(name) for name in var.index]
    lookup = {name: name for name in names}
    for column in (*_ID_COLUMNS, *_SYMBOL_COLUMNS):
        if column in var:
            for other, name in zip(var[column].astype(str), names, strict=True):
                lookup.setdefault(_bare(other), name)
    for name in names:
        lookup.setdefault(_bare(name), name)
    found = {gene: lookup[key] for gene in wanted if (key := gene if gene in lookup else _bare(gene)) in lookup}
    taken = set(found.values())
    return GenePanel(
        found=found,
        missing=tuple(gene for gene in wanted if gene not in found),
        unseen=tuple(name for name in names if name not in taken),
    )


def hint(gene: str, known: Sequence[str]) -> str:
    """Return a hint at the nearest known name; another case is the most likely slip."""
    same = next((name for name in known if name.lower() == gene.lower()), None)
    return f"; did you mean '{same}'?" if same else nearest(gene, known)


def _bare(name: str) -> str:
    return name.split(".")[0] if _ENSEMBL.fullmatch(name) else name
