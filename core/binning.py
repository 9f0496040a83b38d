"""Cells or spots summed into square bins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stzoo.core.errors import UnitsError
from stzoo.core.section import Section


def bin_section(section: Section, bin_um: float) -> Section:
    """Sum the counts of a section into square bins.

    Parameters
    ----------
    section
        A section whose positions are known in micrometres.
    bin_um
        Side of a bin in micrometres. Bin (row, column) covers ``[row, row + 1) * bin_um`` of y and x.

    Returns
    -------
    A section of the bins that hold a cell: ``obs`` has ``array_row``, ``array_col`` and ``n_cells``,
    ``obsm["spatial_um"]`` the centres of the bins, ``X`` the summed counts, float32 CSR.
    """
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    if not (np.isfinite(bin_um) and bin_um > 0):
        raise UnitsError(f"the bin size is {bin_um!r} µm, expected a positive number", where=section.source)
    place = np.floor(section.um / bin_um).astype(np.int64)  # (n, 2): column, row
    cells, member = np.unique(place[:, ::-1], axis=0, return_inverse=True)  # sorted by row, then column
    member = member.ravel()
    n, bins = section.n_spots, len(cells)
    gather = csr_matrix((np.ones(n, dtype=np.float32), (member, np.arange(n))), shape=(bins, n))
    x = csr_matrix(gather @ csr_matrix(section.adata.X, dtype=np.float32))
    adata = AnnData(x, var=section.adata.var.copy())
    adata.obs_names = [f"{row}x{column}" for row, column in cells]
    adata.obs["array_row"], adata.obs["array_col"] = cells[:, 0], cells[:, 1]
    adata.obs["n_cells"] = np.bincount(member, minlength=bins)
    adata.obsm["spatial_um"] = (cells[:, ::-1] + 0.5) * bin_um
    if section.mpp is not None and "spatial" in section.adata.obsm:
        adata.obsm["spatial"] = adata.obsm["spatial_um"] / section.mpp
    return replace(section, adata=adata, pitch_um=float(bin_um), spot_diameter_um=float(bin_um))
