"""Checks of any model: with next to nothing, or the wrong thing, it refuses clearly or answers; it never crashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from stzoo.core.conformance import data
from stzoo.core.conformance.answers import Answer, answer
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import MODELS, ConformanceError, check, refusal
from stzoo.core.data.section import Section


@check(*MODELS)
def no_spots(case: CheckContext) -> None:
    """A section without a spot is refused, or has an answer without rows."""
    _few(case, 0)


@check(*MODELS)
def one_spot(case: CheckContext) -> None:
    """A section of one spot is refused, or has an answer of one row without gaps."""
    _few(case, 1)


def _few(case: CheckContext, count: int) -> None:
    small = [section.take(np.flatnonzero(section.measured)[:count]) for section in case.sections]
    for sections in ((small[0], case.sections[1]), (small[0], small[1])):
        _require_whole_or_refused(case, sections, f"a section of {count} spots")


def _require_whole_or_refused(case: CheckContext, sections: Sequence[Section], what: str) -> None:
    found: list[Answer] = []
    if refusal(lambda: found.append(answer(case.model, sections)), what) is None:
        _check_rows(found[0], sections, what)


def _check_rows(found: Answer, sections: Sequence[Section], what: str) -> None:
    for key, values in found.items():
        rows = len(sections[1]) if key.endswith("1") else len(sections[0])
        if len(values) != rows or not np.isfinite(values).all():
            raise ConformanceError(
                f"{what}: {key} has shape {values.shape}, gaps included", "answer every spot, or refuse"
            )


@check(*MODELS)
def no_micrometres(case: CheckContext) -> None:
    """A section whose µm/px are unknown is refused (or answered in full), since distances have no meaning then."""
    sections = [_without_mpp(section) for section in case.sections]
    _require_whole_or_refused(case, sections, "sections without µm/px")


def _without_mpp(section: Section) -> Section:
    made = data.copy_section(section)
    made.adata.obsm.pop("spatial_um", None)
    slide = made.slide
    return replace(made, mpp=None, slide=None if slide is None else data.without_mpp(slide))


@check("imputer", "aligner")
def no_gene_in_common(case: CheckContext) -> None:
    """Sections that share no gene are refused, or answered from what else they have."""
    other = data.copy_section(case.sections[1])
    other.adata.var_names = [f"no-such-gene-{i}" for i in range(other.n_genes)]
    _require_whole_or_refused(case, (case.sections[0], other), "sections that share no gene")
