"""Checks of imputers."""

from __future__ import annotations

import numpy as np
from stzoo.core.conformance.answers import layer
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import ConformanceError, check, refusal
from stzoo.core.conformance.data import copy_section
from stzoo.core.data.section import PER_10K, Section, Stack
from stzoo.core.imputer import Imputer


def _make_inputs(case: CheckContext) -> tuple[Stack, list[np.ndarray]]:
    """Return what ``fill`` is given: a stack without hidden counts, and log-normalised values."""
    hidden = tuple(section.hide(section.measured) for section in case.sections)
    return Stack(hidden), [section.expression(target=PER_10K) for section in hidden]


@check("imputer")
def filled_is_whole(case: CheckContext) -> None:
    """``fill`` returns finite float32 for every spot and gene, and a confidence from 0 to 1."""
    stack, values = _make_inputs(case)
    filled = case.model.fill(stack, [one.copy() for one in values])
    if len(filled) != len(values):
        raise ConformanceError(f"{len(filled)} results for {len(values)} sections", "return one Filled a section")
    for one, given in zip(filled, values, strict=True):
        for what in ("values", "confidence"):
            found = getattr(one, what)
            if found.dtype != np.float32 or found.shape != given.shape:
                raise ConformanceError(f"{what} are {found.dtype} {found.shape}", f"return float32 {given.shape}")
            if not np.isfinite(found).all():
                raise ConformanceError(
                    f"{what} have gaps", "fill every spot; where nothing is known, say so by confidence 0"
                )
        if one.confidence.min() < 0 or one.confidence.max() > 1:
            raise ConformanceError("confidence leaves 0 to 1", "clip it, or better: say what it means")


@check("imputer")
def parts_are_the_whole(case: CheckContext) -> None:
    """``fill_parts`` yields every hidden spot and gene once, as ``fill`` has it: processes share the parts."""
    stack, values = _make_inputs(case)
    whole = case.model.fill(stack, [one.copy() for one in values])
    times = [np.zeros(one.shape, dtype=np.int64) for one in values]
    for part in case.model.fill_parts(stack, [one.copy() for one in values]):
        times[part.section][part.spots, part.genes] += 1
        for what in ("values", "confidence"):
            expected = getattr(whole[part.section], what)[part.spots, part.genes]
            hidden = ~stack.sections[part.section].measured[part.spots]
            found = np.asarray(getattr(part.filled, what), dtype=np.float32)
            if found.shape != expected.shape or not np.array_equal(found[hidden], expected[hidden]):
                raise ConformanceError(
                    f"{what} of a part are not those of fill", "subclass PartImputer, whose fill() joins the parts"
                )
    for section, counted in zip(stack.sections, times, strict=True):
        if (counted[~section.measured] != 1).any():
            raise ConformanceError(
                f"parts leave hidden spots of '{section.name}' out, or hold them twice",
                "yield every hidden spot and gene once",
            )


@check("imputer")
def measured_spots_untouched(case: CheckContext) -> None:
    """What was measured comes back bit-equal, with confidence 1, in the same order of spots and genes."""
    done = case.model.impute(Stack(case.sections))
    shared = Stack(case.sections).genes
    for given, found in zip(case.sections, done.sections, strict=True):
        measured = given.measured
        if list(found.adata.obs_names) != list(given.adata.obs_names) or found.genes != shared:
            raise ConformanceError(
                f"spots or genes of '{given.name}' come back in another order", "leave impute() as it is"
            )
        if not np.array_equal(found.measured, measured):
            raise ConformanceError(f"obs['measured'] of '{given.name}' is another", "leave impute() as it is")
        truth = given.take_genes(shared).hide(measured)
        for what, wanted in (("X", truth.counts()), ("imputed", truth.expression(target=PER_10K))):
            values = found.counts() if what == "X" else found.adata.layers[what]
            if not np.array_equal(values[measured], wanted[measured]):
                raise ConformanceError(
                    f"{what} of measured spots of '{given.name}' is another", "leave impute() as it is"
                )
        if not (found.adata.layers["confidence"][measured] == 1).all():
            raise ConformanceError(
                f"measured spots of '{given.name}' have a confidence below 1", "leave impute() as it is"
            )


@check("imputer")
def one_section_alone(case: CheckContext) -> None:
    """A single section is filled, or refused with what to give instead."""
    section = case.sections[1]
    found: list[Section] = []
    if refusal(lambda: found.append(case.model.impute(section)), "a single section") is None:
        for name in ("imputed", "confidence"):
            if not np.isfinite(layer(found[0], name)).all():
                raise ConformanceError(f"{name} of a single section has gaps", "fill every spot, or refuse")


@check("imputer")
def measured_spots_are_read(case: CheckContext) -> None:
    """The answer follows what was measured: other counts at measured spots give other values at hidden ones."""
    if not isinstance(case.model, Imputer) or all(section.measured.all() for section in case.sections):
        raise ConformanceError("the sections hide no spot", "give sections with obs['measured']")
    done = case.model.impute(Stack(tuple(_scramble_genes(section) for section in case.sections)))
    hidden = ~case.sections[1].measured
    before = case.expected["imputed of section 1"][hidden]
    if np.array_equal(layer(done.sections[1], "imputed")[hidden], before):
        raise ConformanceError("other measured counts give the very same result", "fill from the values that are given")


def _scramble_genes(section: Section) -> Section:
    """Return a section whose genes have changed their counts with one another."""
    made = copy_section(section)
    made.adata.X = made.adata.X[:, np.random.default_rng(5).permutation(section.n_genes)]
    return made
