"""Bins sum what lies in them, and nothing is lost or doubled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.data.binning import bin_section
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.io.synthetic import synthetic_section

SECTION = synthetic_section(side_um=1000, pitch_um=100, name="fine")


@given(st.floats(30, 3000))
@settings(max_examples=15, deadline=None)
def test_counts_and_cells_are_kept_and_lie_in_their_bins(bin_um):
    binned = bin_section(SECTION, bin_um)
    assert binned.adata.X.sum() == SECTION.adata.X.sum()
    assert binned.adata.obs["n_cells"].sum() == SECTION.n_spots
    assert binned.genes == SECTION.genes
    assert binned.pitch_um == bin_um
    for row, column, counts in zip(
        binned.adata.obs["array_row"], binned.adata.obs["array_col"], binned.adata.X.toarray(), strict=True
    ):
        inside = (np.floor(SECTION.um / bin_um) == [column, row]).all(axis=1)
        np.testing.assert_array_equal(SECTION.adata.X[inside].sum(axis=0).A1 if inside.any() else None, counts)


def test_pixels_stay_under_the_bins():
    binned = bin_section(SECTION, 250.0)
    np.testing.assert_allclose(binned.pixels, binned.um / SECTION.mpp, atol=1e-6)


def test_what_can_not_be_binned_is_refused():
    for size in (0, -5.0, float("nan"), float("inf")):
        with pytest.raises(UnitsError, match="expected a positive number"):
            bin_section(SECTION, size)
    some = np.arange(SECTION.n_spots) % 2 == 0
    adata = SECTION.adata.copy()
    adata.obs["measured"] = some
    with pytest.raises(DataError, match="not measured"):
        bin_section(replace(SECTION, adata=adata), 100.0)
