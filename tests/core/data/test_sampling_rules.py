from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stzoo.core.data.sampling_rules import measured_mask
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UsageError


def section(rows: int = 4, columns: int = 6, **obs: object) -> Section:
    row, column = (a.ravel() for a in np.mgrid[:rows, :columns])
    names = [f"s{i} a" for i in range(rows * columns)]
    frame = pd.DataFrame({"array_row": row, "array_col": column, **obs}, index=names)
    adata = anndata.AnnData(np.ones((rows * columns, 2), dtype=np.float32), obs=frame)
    adata.obsm["spatial_um"] = np.stack([column, row], axis=1) * 100.0
    return Section(adata, name="t")


def test_the_grid_rule_of_the_imputation_tasks():
    grid = measured_mask(section(), "grid:2").reshape(4, 6)
    assert grid.sum() == 6
    assert grid[::2, ::2].all()
    assert np.array_equal(measured_mask(section(), "grid:2+1,0").reshape(4, 6)[1::2, ::2], np.ones((2, 3), bool))
    assert measured_mask(section(), "grid:1").all()
    assert measured_mask(section(), "all").all()


def test_a_grid_on_a_hexagonal_lattice_counts_the_columns_of_a_row_one_by_one():
    s = section(rows=8, columns=6)
    s.adata.obs["array_col"] = 2 * s.adata.obs["array_col"] + s.adata.obs["array_row"] % 2
    masks = [measured_mask(s, f"grid:2+{r},{c}") for r in (0, 1) for c in (0, 1)]
    assert [mask.sum() for mask in masks] == [12] * 4
    assert (np.sum(masks, axis=0) == 1).all()
    assert np.array_equal(masks[0].reshape(8, 6)[::2, ::2], np.ones((4, 3), bool))


@settings(deadline=None)
@given(stride=st.integers(1, 4), data=st.data())
def test_the_phases_of_a_grid_share_out_the_spots(stride, data):
    s = section()
    masks = [measured_mask(s, f"grid:{stride}+{r},{c}") for r in range(stride) for c in range(stride)]
    assert (np.sum(masks, axis=0) == 1).all()


def test_random_is_a_share_and_the_same_for_the_same_seed():
    s = section()
    assert measured_mask(s, "random:0.25").sum() == 6
    assert np.array_equal(measured_mask(s, "random:0.5+7"), measured_mask(s, "random:0.5+7"))
    assert not np.array_equal(measured_mask(s, "random:0.5+7"), measured_mask(s, "random:0.5+8"))


@pytest.mark.parametrize(
    "values", [[True, False] * 12, [1, 0] * 12, [1.0, 0.0] * 12, pd.Categorical([True, False] * 12)]
)
def test_a_column_says_what_is_measured(values):
    assert measured_mask(section(seen=values), "obs:seen").tolist() == [True, False] * 12


def test_barcodes_from_a_file_may_hold_spaces(tmp_path):
    path = tmp_path / "barcodes.txt"
    path.write_text("s3 a\n\ns0 a\r\n")
    assert np.flatnonzero(measured_mask(section(), f"file:{path}")).tolist() == [0, 3]
    path.write_text("s3 a\nnowhere\n")
    with pytest.raises(DataError, match=r"1 of 2 barcodes are not in section 't', e\.g\. 'nowhere'"):
        measured_mask(section(), f"file:{path}")
    with pytest.raises(DataError, match="can not read"):
        measured_mask(section(), f"file:{tmp_path / 'absent'}")


@pytest.mark.parametrize(
    "rule",
    ["", "every:2", "all:2", "grid:", "grid:0", "grid:-1", "grid:two", "grid:2+1", "grid:2+a,b", "random:", "random:0",
     "random:1.5", "random:nan", "random:0.5+x", "random:0.5+-3"],
)  # fmt: skip
def test_a_rule_that_is_not_understood(rule):
    with pytest.raises(UsageError, match="is not a rule"):
        measured_mask(section(), rule)


@pytest.mark.parametrize(
    ("obs", "rule", "message"),
    [
        ({"seen": [False] * 24}, "obs:seen", "leaves no spot"),
        ({}, "obs:absent", "no obs column 'absent'"),
        ({"seen": ["yes"] * 24}, "obs:seen", "not true/false or 0/1"),
        ({"seen": [None] + [True] * 23}, "obs:seen", "not true/false or 0/1"),
        ({"seen": [np.nan] + [1.0] * 23}, "obs:seen", "not true/false or 0/1"),
        ({"seen": [0.5] * 24}, "obs:seen", "not true/false or 0/1"),
        ({"array_row": [np.nan] + [1.0] * 23}, "grid:2", "obs['array_row'] of section 't' has 1 gaps"),
        ({"array_row": ["a"] * 24}, "grid:2", "is not numbers"),
    ],
)
def test_a_section_that_does_not_fit_the_rule(obs, rule, message):
    with pytest.raises(DataError) as caught:
        measured_mask(section(**obs), rule)
    assert message in str(caught.value)


def test_a_grid_needs_array_positions():
    s = section()
    del s.adata.obs["array_row"]
    with pytest.raises(DataError, match=r"no obs\['array_row'\]"):
        measured_mask(s, "grid:2")
