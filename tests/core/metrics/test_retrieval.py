"""Ranks of right answers against scipy's, ties shared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from stzoo.core.errors import UsageError
from stzoo.core.metrics.retrieval import partner_ranks


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
def test_ranks_are_those_of_scipy(n, values, seed):
    similarity = np.random.default_rng(seed).integers(0, values, (n, n)).astype(np.float32)  # many ties
    np.testing.assert_array_equal(partner_ranks(similarity), np.diag(rankdata(-similarity, axis=1)))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros(4), np.full((2, 2), np.nan)])
def test_what_is_no_similarity_is_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        partner_ranks(wrong)
