"""Three consecutive sections of a breast tumour: one whole, a quarter of the others, filled by kriging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stzoo
from stzoo.core.data.section import Section
from stzoo.core.io.read_stack import open_stack
from stzoo.core.io.stack_file import load_stack_file, new_stack_file, write_stack_file
from stzoo.core.io.volume import COMMON, Volume
from stzoo.core.plotting.volume import plot_volume
from stzoo.core.workflows.densify import densify
from stzoo.core.workflows.impute_stack import ImputedStack, impute_stack

COUNT = 20


def top_genes(section: Section, known: set[str]) -> list[str]:
    """Return the genes of greatest mean over the measured spots of the central section."""
    mean = section.expression(target=1e4).mean(axis=0)
    return [gene for gene in np.array(section.genes)[np.argsort(-mean)] if gene in known][:COUNT]


@pytest.fixture(scope="module")
def filled(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> ImputedStack:
    path = tmp_path_factory.mktemp("stack") / "stack.yaml"
    made = new_stack_file(shared_data / "her2st", path, spacing_um=16, names=["C3", "C4", "C5"])
    opened = open_stack(load_stack_file(write_stack_file(made, path)))
    genes = top_genes(opened.sections[1], set(opened.stack.genes))
    aligner = stzoo.model("rigid")
    return impute_stack(
        stzoo.model("kriging"), opened.stack, sample="C", aligner=aligner, genes=genes, truth=opened.sections
    )


def test_hidden_spots_come_out_better_than_by_the_gene_mean(filled: ImputedStack) -> None:
    for name, score in zip(filled.volume.names, filled.scores(), strict=True):
        if name != "C4":
            assert score["known"] > 120
            assert score["pcc_median"] > 0.3
            assert score["mse"] < 0.9 * score["gene_mean_mse"]


def test_sections_lie_over_each_other(filled: ImputedStack) -> None:
    from scipy.spatial import cKDTree

    central = cKDTree(filled.volume.stack.sections[1].adata.obsm[COMMON])
    for section in filled.volume.stack.sections:
        away = central.query(section.adata.obsm[COMMON])[0]
        assert np.mean(away) < 110  # two lattices of 200 µm pitch at a random offset: 77 µm
        assert np.mean(away > 200) < 0.1


def test_the_volume_is_kept_and_drawn(filled: ImputedStack, tmp_path: Path) -> None:
    back = Volume.read(filled.write(tmp_path / "out", export_sections=True))
    assert back.stack.sections[0].slide is not None
    dense = densify(back, 1)
    assert dense.stack.sections[1].n_spots > 150
    assert plot_volume(dense, dense.most_variable(2), tmp_path / "s.png").stat().st_size > 50_000
