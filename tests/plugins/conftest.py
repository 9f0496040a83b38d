"""Sections that the tests of several plugins use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from stzoo.core.data.section import Section


def _tissue(rows=14, cols=12, genes=8, seed=0, name="tissue", depth=400, flip=False) -> Section:
    """A smooth field of expression on a lattice of 100 µm, every second spot in each direction measured."""
    rng = np.random.default_rng(seed)
    r, c = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    angles = np.linspace(0, np.pi, genes)
    wave = np.sin(2 * np.pi * (np.outer(np.cos(angles), r) + np.outer(np.sin(angles), c)) / 10).T
    rate = np.exp(wave) / np.exp(wave).sum(axis=1, keepdims=True)
    counts = rng.poisson(rate * depth).astype(np.float32)
    obs = pd.DataFrame({"array_row": r, "array_col": c}, index=[f"{a}x{b}" for a, b in zip(r, c, strict=True)])
    obs["measured"] = (r % 2 == 0) & (c % 2 == 0)
    adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(genes)]))
    adata.obsm["spatial_um"] = np.stack([c, r], axis=1) * 100.0
    return Section(adata, name)


@pytest.fixture(scope="session")
def tissue() -> Callable[..., Section]:
    """Make a synthetic section (see ``_tissue``)."""
    return _tissue
