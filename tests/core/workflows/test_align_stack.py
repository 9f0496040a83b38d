"""Sections of a stack are aligned to the central one, directly or along a chain, and no aligner sees hidden counts."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from stzoo.core.aligner import Aligner
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import UsageError
from stzoo.core.geometry.transform import Transform
from stzoo.core.runtime.progress import Progress
from stzoo.core.workflows.align_stack import align_stack, central_section


class Nothing:
    """Options: there are none."""


class Centres(Aligner):
    """Lays one centre upon the other, and remembers who was asked and what could be seen."""

    name = "centres"
    config_class = Nothing

    def __init__(self) -> None:
        super().__init__(Nothing())
        self.asked: list[tuple[str, str]] = []
        self.hidden_counts: list[float] = []

    def align(self, moving: Section, fixed: Section, *, progress: Progress | None = None) -> Transform:
        self.asked.append((moving.name, fixed.name))
        self.hidden_counts += [float(c) for s in (moving, fixed) for c in s.adata.X[~s.measured].ravel()]
        return Transform.rigid(0, tuple(fixed.um.mean(axis=0) - moving.um.mean(axis=0)))


def moved(number: int, share: float = 1.0) -> Section:
    places = np.array([[x, y] for x in range(4) for y in range(4)], dtype=float) * 100
    adata = AnnData(np.full((16, 3), 7.0, dtype=np.float32))
    adata.obsm["spatial_um"] = places + np.array([300.0 * number, -50.0 * number])
    adata.obs["measured"] = np.arange(16) < 16 * share
    return Section(adata, str(number))


@pytest.mark.parametrize("chain", [False, True])
def test_every_section_lands_on_the_fixed_one(chain):
    stack = Stack(tuple(moved(i) for i in range(4)))
    done = align_stack(stack, Centres(), fixed=1, chain=chain)
    for number in range(4):
        np.testing.assert_allclose(done.um(number), stack.sections[1].um)


def test_a_chain_asks_neighbours_only():
    aligner = Centres()
    align_stack(Stack(tuple(moved(i) for i in range(5))), aligner, fixed=1, chain=True)
    assert sorted(aligner.asked) == [("0", "1"), ("2", "1"), ("3", "2"), ("4", "3")]


def test_without_a_chain_all_are_aligned_to_the_fixed_one():
    aligner = Centres()
    align_stack(Stack(tuple(moved(i) for i in range(4))), aligner, fixed=2)
    assert sorted(aligner.asked) == [("0", "2"), ("1", "2"), ("3", "2")]


def test_hidden_counts_reach_no_aligner():
    aligner = Centres()
    align_stack(Stack((moved(0, 0.25), moved(1), moved(2, 0.5))), aligner)
    assert len(aligner.hidden_counts) > 0
    assert np.isnan(aligner.hidden_counts).all()


def test_the_central_section_is_the_fullest_and_of_several_the_middle_one():
    assert central_section(Stack((moved(0, 0.25), moved(1, 0.25), moved(2)))) == 2
    assert central_section(Stack(tuple(moved(i) for i in range(5)))) == 2


def test_a_section_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no section 4"):
        align_stack(Stack((moved(0), moved(1))), Centres(), fixed=4)
