"""Expression of the training spots: sparse until the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, vstack
from stzoo.core.arrays import Indices
from stzoo.core.data.section import Section
from torch import Tensor

TARGET = 1e4
"""Expression is log1p of counts per 10,000."""
COMPONENTS = 20
"""Principal components of a profile."""
EXACT_VALUES = 1 << 22
"""Spots times genes up to which the components come from a singular value decomposition of the dense matrix."""
_ROWS = 4096


class SparseValues:
    """Log-normalised expression of spots, (n, g); ``values[rows]`` is dense, and only those rows.

    Parameters
    ----------
    matrix
        CSR, float32 (n, g).
    """

    def __init__(self, matrix: csr_array) -> None:
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Return float32 (len(rows), g)."""
        return torch.from_numpy(self.matrix[rows.numpy()].toarray())


def log_normalised(section: Section, genes: Sequence[str], spots: Indices) -> Iterator[csr_array]:
    """Yield what :meth:`Section.expression` gives for some spots (measured ones), sparse, a few thousand at a time."""
    columns, x, depth = section.gene_index(genes), section.adata.X, section.depth
    scale = np.divide(TARGET, depth, out=np.zeros_like(depth), where=depth > 0).astype(np.float32)
    for start in range(0, len(spots), _ROWS):
        some = spots[start : start + _ROWS]
        part = csr_array(x[some][:, columns], dtype=np.float32)
        part.data = np.log1p(part.data * np.repeat(scale[some], np.diff(part.indptr)))
        yield part


def stacked(parts: Sequence[csr_array]) -> SparseValues:
    """Return the rows of all parts."""
    return SparseValues(csr_array(vstack(parts, format="csr")))


def components(values: SparseValues) -> Tensor:
    """Return the leading principal components of the standardised values, float32 (n, p), p at most 20.

    A small matrix is decomposed as it is. A large one stays sparse: Lanczos iterations (scikit-learn's ``arpack``) with
    the mean taken off on the way, so memory is that of the counts. Signs of components are arbitrary.
    """
    n, g = values.shape
    if n * g <= EXACT_VALUES or min(n, g) <= COMPONENTS:
        y = torch.from_numpy(values.matrix.toarray())
        scaled = (y - y.mean(0)) / (y.std(0) + 1e-3)
        u, s, _ = torch.linalg.svd(scaled, full_matrices=False)
        leading: Tensor = (u * s)[:, :COMPONENTS]
        return leading
    from sklearn.decomposition import PCA

    mean = values.matrix.sum(axis=0, dtype=np.float64) / n
    variance = (values.matrix.multiply(values.matrix).sum(axis=0, dtype=np.float64) - n * mean**2) / (n - 1)
    scaled_columns = values.matrix @ diags_array(1 / (np.sqrt(variance.clip(min=0)) + 1e-3)).astype(np.float32)
    found = PCA(COMPONENTS, svd_solver="arpack", random_state=0).fit_transform(scaled_columns)
    return torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
