"""Checks of any model: nearly nothing to work on, and the wrong thing; a clear error or a right answer, never a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from stzoo.core.section import Section
from stzoo.core.testing import data
from stzoo.core.testing.answers import Answer, answer
from stzoo.core.testing.cases import Case
from stzoo.core.testing.checks import MODELS, FaultError, check, refusal


@check(*MODELS)
def no_spots(case: Case) -> None:
    """A section without a spot is refused, or has an answer without rows."""
    _few(case, 0)


@check(*MODELS)
def one_spot(case: Case) -> None:
    """A section of one spot is refused, or has an answer of one row without gaps."""
    _few(case, 1)


def _few(case: Case, count: int) -> None:
    measured = [section.take(np.flatnonzero(section.measured)[:count]) for section in case.sections]
    for sections in ((measured[0], case.sections[1]), tuple(measured)):
        found: list[Answer] = []
        what = f"a section of {count} spots"
        if refusal(lambda given=sections: found.append(answer(case.model, given)), what) is None:  # type: ignore[misc]
            _check_rows(found[0], sections, what)


def _check_rows(found: Answer, sections: Sequence[Section], what: str) -> None:
    for key, values in found.items():
        rows = len(sections[1]) if key.endswith("1") else len(sections[0])
        if len(values) != rows or not np.isfinite(values).all():
            raise FaultError(f"{what}: {key} has shape {values.shape}, gaps included", "answer every spot, or refuse")


@check(*MODELS)
def no_micrometres(case: Case) -> None:
    """A section whose µm/px are unknown is refused (or answered in full), since distances have no meaning then."""
    sections = [_without_mpp(section) for section in case.sections]
    found: list[Answer] = []
    if refusal(lambda: found.append(answer(case.model, sections)), "sections without µm/px") is None:
        _check_rows(found[0], sections, "sections without µm/px")


def _without_mpp(section: Section) -> Section:
    made = data.copied(section)
    made.adata.obsm.pop("spatial_um", None)
    slide = made.slide
    return replace(made, mpp=None, slide=None if slide is None else data.without_mpp(slide))


@check("imputer", "aligner")
def no_gene_in_common(case: Case) -> None:
    """Sections that share no gene are refused, or answered from what else they have."""
    other = data.copied(case.sections[1])
    other.adata.var_names = [f"no-such-gene-{i}" for i in range(other.n_genes)]
    found: list[Answer] = []
    given = (case.sections[0], other)
    if refusal(lambda: found.append(answer(case.model, given)), "sections that share no gene") is None:
        _check_rows(found[0], given, "sections that share no gene")
