"""Counts on disk are those in memory, and are left there only where nothing has to be changed."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack
from stzoo.core.data.lazy import is_whole, lazy_anndata, on_disk, pieces


def file_with(path, x, **obs):
    adata = anndata.AnnData(x)
    for name, values in obs.items():
        adata.obs[name] = values
    adata.obsm["spatial"] = np.zeros((adata.n_obs, 2))
    adata.write_h5ad(path)
    return path


def test_parts_on_disk_are_the_matrix_in_memory(tmp_path):
    counts = csr_matrix(np.random.default_rng(0).poisson(0.4, (20_000, 3)).astype(np.float32))
    with h5py.File(file_with(tmp_path / "a.h5ad", counts)) as file:
        found = lazy_anndata(file)
        assert on_disk(found.X)
        parts = list(pieces(found.X))
        assert len(parts) > 1
        assert [first for first, _ in parts] == np.cumsum([0, *(part.shape[0] for _, part in parts)])[:-1].tolist()
        assert (vstack([part for _, part in parts]) != counts).nnz == 0
        assert "spatial" in found.obsm
    assert not on_disk(counts)
    ((first, whole),) = pieces(counts)
    assert first == 0
    assert whole is counts


@pytest.mark.parametrize("case", ["dense", "columns first", "fractions", "hidden"])
def test_what_has_to_be_read_whole(tmp_path, case):
    counts = np.arange(6, dtype=np.float32).reshape(3, 2)
    x = {"dense": counts, "columns first": csr_matrix(counts).tocsc(), "fractions": csr_matrix(counts / 2)}
    hidden = {"measured": [True, False, True]} if case == "hidden" else {}
    with h5py.File(file_with(tmp_path / "a.h5ad", x.get(case, csr_matrix(counts)), **hidden)) as file:
        assert lazy_anndata(file) is None
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        assert lazy_anndata(file) is None


def test_whole_numbers_of_any_type():
    assert is_whole(np.array([1, 2], dtype=np.uint8))
    assert is_whole(np.array([1.0, np.nan, -3.0]))
    assert not is_whole(csr_matrix([[0.0, 0.5]]))
