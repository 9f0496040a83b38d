"""Checks of any model: what must not change an answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from stzoo.core.conformance import data
from stzoo.core.conformance.answers import ROUNDING, Answer, answer, check_same
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import MODELS, CheckSkipped, ConformanceError, check
from stzoo.core.data.section import Section

GENE_ORDER = 0.05
"""Components of the genes may come with another sign, and meet other initial weights: that much may remain of it."""
UNITS_UM, UNITS = 10.0, 0.05
"""An aligner may miss by this much when a slide is sampled otherwise; the others by a share of the spread."""

TURNS, MEETINGS, WAIT_S = 2, 20, 0.05
"""How often each thread asks, how often in each turn it waits for the other at most, and how long."""


@check(*MODELS)
def inputs_are_left_alone(case: CheckContext) -> None:
    """Counts, tables and positions of the sections given are afterwards what they were."""
    sections = [data.copy_section(section) for section in case.untouched]
    before = [_content(section) for section in sections]
    answer(case.model, sections)
    for old, new in zip(before, map(_content, sections), strict=True):
        changed = [key for key in {**old, **new} if not _equal(old.get(key), new.get(key))]
        if changed:
            raise ConformanceError(f"the model changed {changed[0]} of a section it was given", "work on a copy")


def _content(section: Section) -> dict[str, Any]:
    adata = section.adata
    found = {"X": _dense(adata.X), "obs_names": list(adata.obs_names), "var_names": list(adata.var_names)}
    found |= {f"obs['{key}']": np.array(adata.obs[key]) for key in adata.obs}
    found |= {f"obsm['{key}']": np.array(adata.obsm[key]) for key in adata.obsm}
    found |= {f"layers['{key}']": _dense(adata.layers[key]) for key in adata.layers}
    return found | {"uns": repr(dict(adata.uns))}


def _dense(x: Any) -> Any:
    return np.array(x.todense() if hasattr(x, "todense") else x)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype.kind == "f":
        return np.array_equal(a, b, equal_nan=True)
    return type(a) is type(b) and bool(np.all(a == b) if np.shape(a) == np.shape(b) else False)


@check(*MODELS)
def counts_of_any_type(case: CheckContext) -> None:
    """Counts as integers, in double precision, or in a sparse matrix by columns are the same counts."""
    for kind in ("csc", "int32", "float64"):
        sections = [data.store_counts(section, kind) for section in case.sections]
        todo = "read counts through section.counts() or section.expression()"
        check_same(answer(case.model, sections), case.expected, ROUNDING, f"with counts kept as {kind}", todo)


@check(*MODELS)
def gene_order(case: CheckContext) -> None:
    """The order of the genes in the table means nothing: the same genes in another order give the same answer."""
    sections = [data.reorder_genes(section) for section in case.sections]
    todo = "find genes by name (section.gene_index), and let nothing depend on the column"
    what = "with the genes in another order"
    model = case.model
    if case.subject.role == "encoder" and case.refits:
        model = case.fresh()
        model.fit([sections[1]], head=model.default_head)
    check_same(answer(model, sections), case.expected, GENE_ORDER, what, todo)


@check(*MODELS)
def units(case: CheckContext) -> None:
    """The same tissue, scanned at half the µm/px, gives the same answer: distances are micrometres, not pixels."""
    if any(section.mpp is None or "spatial_um" in section.adata.obsm for section in case.sections):
        raise CheckSkipped("these sections have no pixels")
    todo = "use section.um, and read the slide at the µm/px that the config says (slide.tiles(..., mpp=...))"
    what = "the same tissue at half the µm/px"
    first, second = case.sections
    role = case.subject.role
    if role == "aligner":
        for pair in ((data.finer(first), second), (first, data.finer(second))):
            moved = answer(case.model, pair)["places"]
            apart = float(np.linalg.norm(moved - case.expected["places"], axis=1).max())
            if apart > UNITS_UM:
                raise ConformanceError(f"{what} comes to lie {apart:.0f} µm elsewhere", todo)
        return
    if role == "encoder":
        found = {"embedding": case.model.embed(data.finer(first))}
        check_same(found, {"embedding": case.embedding}, UNITS, what, todo)
        return
    check_same(answer(case.model, (data.finer(first), data.finer(second))), case.expected, UNITS, what, todo)


@check(*MODELS)
def threads_agree(case: CheckContext) -> None:
    """Two threads that ask one model about two tissues get what they would have got alone."""
    model, jobs = case.fresh(), (case.sections, case.sections[::-1])
    alone = case.expected, answer(model, jobs[1])
    todo = "keep what belongs to one call in local variables, never on self, in a module or in torch's global generator"
    for number, found in enumerate(_at_once(model, jobs)):
        if isinstance(found, BaseException):
            raise ConformanceError(
                f"with two threads the model fails: {type(found).__name__}: {found}", todo
            ) from found
        check_same(found, alone[number // TURNS], ROUNDING, "asked by two threads at once", todo)


def _at_once(model: Any, jobs: Sequence[Sequence[Section]]) -> list[Answer | BaseException]:
    """Ask from one thread a job, each :data:`TURNS` times; they wait for each other wherever they tell progress."""
    found: list[Answer | BaseException] = [RuntimeError("the thread has not ended")] * (TURNS * len(jobs))

    def ask(number: int) -> None:
        for place in range(TURNS * number, TURNS * (number + 1)):
            try:
                found[place] = answer(model, jobs[number], progress=_Meeting(barrier))
            except Exception as error:  # noqa: BLE001 - reported by whoever waits
                found[place] = error

    barrier = threading.Barrier(len(jobs))
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(jobs))]
    with _switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


class _Meeting:
    """A progress callback that lets the other thread come as far, so that what they share gets mixed up for certain."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier, self.left = barrier, MEETINGS

    def __call__(self, done: int, total: int) -> None:
        if self.left > 0:
            self.left -= 1
            try:
                self.barrier.wait(WAIT_S)
            except threading.BrokenBarrierError:  # the other is elsewhere, or has ended
                self.barrier.reset()


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)
