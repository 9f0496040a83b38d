"""Checks of any model: what a model may not see, it does not read."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from stzoo.core.arrays import Mask
from stzoo.core.conformance import data
from stzoo.core.conformance.answers import EXACT, Answer, answer, check_same
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import MODELS, check
from stzoo.core.data.section import Section

LEVELS = (1e6, -1e4)
"""What hidden counts are replaced by."""
_TODO = "read counts of measured spots alone: section.counts() is NaN elsewhere; take nothing from layers, uns or files"


@check(*MODELS)
def hidden_spots_nan(case: CheckContext) -> None:
    """With counts of hidden spots taken away, the answer is the same, bit for bit: they were never read."""
    check_same(_blind(case), _seeing(case), EXACT, "with hidden counts taken away", _TODO)


@check(*MODELS)
def hidden_spots_poisoned(case: CheckContext) -> None:
    """Absurd counts of hidden spots, in the table, whatever is derived from it, and its file, change nothing."""
    wanted = _blind(case)
    for level in LEVELS:
        sections = [_poison(case, section, level) for section in case.sections]
        check_same(answer(case.model, sections), wanted, EXACT, f"with hidden counts of {level:.0e}", _TODO)
    with tempfile.TemporaryDirectory() as scratch:
        found = answer(case.model, [_from_file(case, section, Path(scratch)) for section in case.sections])
    what = f"with hidden counts of {LEVELS[0]:.0e} in the file that section.source names"
    check_same(found, wanted, EXACT, what, "read nothing but the section that is given")


@check("encoder")
def heads_learn_from_measured_spots(case: CheckContext) -> None:
    """A head that is fitted on a section with hidden spots is fitted on the measured ones alone."""
    head = case.model.default_head
    reference = case.sections[1]
    mask = np.arange(len(reference)) % 3 > 0
    found = []
    for level in (None, *LEVELS):
        given = reference.hide(mask) if level is None else _apply_mask(data.poison(reference, ~mask, level), mask)
        model = case.fresh().fit([given], head=head)
        found.append({"prediction": model.predict(case.sections[0], head=head).values})
    for other in found[1:]:
        check_same(other, found[0], EXACT, "a head fitted beside absurd hidden counts", _TODO)


def _mask_of_role(case: CheckContext, section: Section) -> Mask:
    """Which spots the role may read: none for an encoder that predicts, half for an aligner."""
    if case.subject.role == "encoder":
        return np.zeros(len(section), dtype=bool)
    return section.measured & (np.arange(len(section)) % 2 == 0) if section.measured.all() else section.measured


def _apply_mask(section: Section, mask: Mask) -> Section:
    made = data.store_counts(section, "float32")  # as hide() leaves it, so that sums are rounded alike
    made.adata.obs["measured"] = mask
    return made


def _blind(case: CheckContext) -> Answer:
    return case.once("blind", lambda: answer(case.model, [s.hide(_mask_of_role(case, s)) for s in case.sections]))


def _seeing(case: CheckContext) -> Answer:
    if case.subject.role == "encoder":
        return case.expected
    return answer(case.model, [_apply_mask(section, _mask_of_role(case, section)) for section in case.sections])


def _poison(case: CheckContext, section: Section, level: float) -> Section:
    seen = _mask_of_role(case, section)
    return _apply_mask(data.poison(section, ~seen, level), seen)


def _from_file(case: CheckContext, section: Section, folder: Path) -> Section:
    """Return a section without hidden counts whose source is a file that still has some."""
    path = folder / f"{section.name}.h5ad"
    hidden = ~_mask_of_role(case, section)
    lies = data.store_counts(section, "float32").adata
    lies.X[hidden] = LEVELS[0]
    lies.write_h5ad(path)
    return replace(section.hide(~hidden), source=str(path))
