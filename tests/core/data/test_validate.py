"""What is wrong with a section is refused by its field, with the first place where it stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_array, csr_matrix
from stzoo.core.data.section import Section
from stzoo.core.data.validate import check_places, check_section, share_outside
from stzoo.core.errors import DataError
from stzoo.core.slides.slide import Slide


def section(counts: object = None, names: tuple[str, ...] = ("a", "b", "c"), genes: tuple[str, ...] = ("G", "H")):
    x = np.arange(6, dtype=np.float32).reshape(3, 2) if counts is None else counts
    adata = AnnData(x, obs=pd.DataFrame(index=list(names)), var=pd.DataFrame(index=list(genes)))
    adata.obsm["spatial"] = np.array([[1.0, 2], [3, 4], [5, 6]])
    return Section(adata, "made", source="made.h5ad")


def test_a_section_that_is_right_comes_back_itself():
    made = section()
    assert check_section(made) is made


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix, csr_array])
@pytest.mark.parametrize(("value", "word"), [(-1.0, "negative"), (np.nan, "NaN or infinite"), (np.inf, "NaN or inf")])
def test_bad_counts_are_named_by_spot_and_gene_dense_or_sparse(kind, value, word):
    counts = np.array([[0, 2], [3, 0], [0, 5]], dtype=np.float32)
    counts[2, 1] = value
    with pytest.raises(DataError, match=rf"1 counts are {word}.* spot 'c', gene 'H'"):
        check_section(section(kind(counts)))


def test_hidden_spots_may_have_anything():
    counts = np.array([[1, 2], [np.nan, -4], [0, 5]], dtype=np.float32)
    made = section(counts)
    made.adata.obs["measured"] = [True, False, True]
    assert check_section(made) is made


@pytest.mark.filterwarnings("ignore:.*names are not unique")
def test_names_twice_and_nothing_at_all():
    with pytest.raises(DataError, match=r"1 barcodes stand more than once, e\.g\. 'a'"):
        check_section(section(names=("a", "b", "a")))
    with pytest.raises(DataError, match=r"1 genes stand more than once, e\.g\. 'G'"):
        check_section(section(genes=("G", "G")))
    made = section()
    with pytest.raises(DataError, match="empty: 0 spots x 2 genes"):
        check_section(replace(made, adata=made.adata[:0]))


@pytest.mark.parametrize(
    ("obsm", "words"),
    [
        ({}, "no positions"),
        ({"X_pca": np.zeros((3, 2))}, "obsm has X_pca"),
        ({"spatial": np.zeros((3, 3))}, r"obsm\['spatial'\] has shape \(3, 3\)"),
        ({"spatial_um": np.full((3, 2), np.nan)}, r"obsm\['spatial_um'\].*not finite"),
        ({"spatial": np.array([["a", "b"]] * 3)}, "type <U1"),
        ({"spatial": np.ones((3, 2))}, r"all 3 spots stand at one place, \(1, 1\)"),
        ({"spatial": np.arange(6).reshape(3, 2), "spatial_um": np.zeros((3, 2))}, "one place"),
    ],
)
def test_places_that_are_none(obsm, words):
    with pytest.raises(DataError, match=words):
        check_places(obsm, "file.h5ad")


def test_most_spots_have_to_lie_on_the_slide():
    made = replace(section(), slide=Slide.from_array(np.zeros((5, 4, 3), dtype=np.uint8)))
    assert share_outside(made) == pytest.approx(1 / 3)  # the border belongs to it
    assert check_section(made) is made
    off = replace(made, slide=Slide.from_array(np.zeros((3, 2, 3), dtype=np.uint8)))
    with pytest.raises(DataError, match=r"67% of the spots lie outside the slide: it is 2 x 3 px"):
        check_section(off)
    assert share_outside(section()) == 0
