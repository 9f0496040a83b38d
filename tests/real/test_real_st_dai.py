"""ST-DAI on a real pair: a breast tumour's C4 whole, a quarter of C5 (all methods and options: benchmarks)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stzoo.core.arrays import Floats
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section, Stack
from stzoo.core.io.read import read
from stzoo.core.metrics.correlation import per_gene_pcc
from stzoo.core.registry import model
from stzoo.core.workflows.align_stack import align_stack

pytestmark = pytest.mark.real

COUNT = 30
FEW_STEPS = {"encoder": "none", "network": {"width": 64, "steps": 60}, "refine": {"steps": 60}}


@pytest.fixture(scope="module")
def pair(shared_data: Path) -> tuple[Stack, Floats]:
    """C4 and C5 in one frame, 30 genes of greatest mean over measured spots; the truth of C5."""
    whole, other = (read(f"{shared_data}/her2st::{name}") for name in ("C4", "C5"))
    measured = measured_mask(other, "grid:2")
    stack = align_stack(Stack((whole, other.hide(measured))), model("rigid"))
    seen = [section.expression(target=1e4, genes=stack.genes) for section in stack.sections]
    mean = np.concatenate([seen[0], seen[1][measured]]).mean(axis=0)
    genes = [stack.genes[i] for i in np.argsort(-mean)[:COUNT]]
    cut = replace(stack, sections=tuple(section.take_genes(genes) for section in stack.sections))
    return cut, other.expression(genes, target=1e4)


def median_pcc(done: Section, truth: Floats) -> float:
    hidden = ~done.measured
    return float(np.median(np.nan_to_num(per_gene_pcc(truth[hidden], done.adata.layers["imputed"][hidden]))))


def test_it_is_worth_more_than_either_the_sections_own_spots_or_the_other_section(pair: tuple[Stack, Floats]) -> None:
    stack, truth = pair
    sparse = stack.sections[1]
    pcc = {
        "st-dai": median_pcc(model("st-dai", FEW_STEPS).impute(stack).sections[1], truth),
        "own spots": median_pcc(model("kriging").impute(sparse, target=1e4), truth),
        "transfer": median_pcc(model("transfer").impute(stack).sections[1], truth),
    }
    assert 0.3 < pcc["st-dai"] < 0.6, pcc
    assert pcc["st-dai"] > pcc["own spots"] + 0.06, pcc
    assert pcc["st-dai"] > pcc["transfer"] + 0.03, pcc
