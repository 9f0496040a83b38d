"""Aggregation of cells or spots into square bins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UnitsError


def bin_section(section: Section, bin_um: float) -> Section:
    """Sum the counts of a section into square bins.

    Parameters
    ----------
    section
        A section with positions in micrometres and all spots measured.
    bin_um
        Side length of a bin in micrometres. Bin (row, column) covers ``[row, row + 1) * bin_um`` of y and x.

    Returns
    -------
    A section of the non-empty bins: ``obs`` has ``array_row``, ``array_col`` (int) and ``n_cells``,
    ``obsm["spatial_um"]`` the bin centres (also ``obsm["spatial"]`` if the section has pixels), ``X`` the
    summed counts, float32 CSR.

    Raises
    ------
    UnitsError
        The size is not a positive number, or the section has no µm/px.
    DataError
        Some spots are not measured, so the sums would be too small.
    """
    from scipy.sparse import csr_matrix
    from stzoo.core.data.notes import make_adata

    if not (np.isfinite(bin_um) and bin_um > 0):
        raise UnitsError(
            f"the bin size is {bin_um!r} µm, expected a positive number", where=section.source, todo="e.g. --bin-um 50"
        )
    if not section.measured.all():
        raise DataError("spots that were not measured can not be summed into bins", where=section.source)
    um = section.um
    place = np.floor(um / bin_um).astype(np.int64)  # (n, 2): column, row
    cells, member = np.unique(place[:, ::-1], axis=0, return_inverse=True)  # sorted by row, then column
    member = member.ravel()
    n, bins = section.n_spots, len(cells)
    gather = csr_matrix((np.ones(n, dtype=np.float32), (member, np.arange(n))), shape=(bins, n))
    x = csr_matrix(gather @ csr_matrix(section.adata.X, dtype=np.float32))
    adata = make_adata(x, [f"{row}x{column}" for row, column in cells], section.genes)
    adata.var = section.adata.var.copy()
    adata.uns.update(section.adata.uns)
    adata.obs["array_row"], adata.obs["array_col"] = cells[:, 0], cells[:, 1]
    adata.obs["n_cells"] = np.bincount(member, minlength=bins)
    centres = (cells[:, ::-1] + 0.5) * bin_um
    adata.obsm["spatial_um"] = centres
    if "spatial" in section.adata.obsm and n >= 3:
        # The micrometre frame may be rotated or shifted against the pixels, so the map between them is fitted.
        source, target = np.column_stack([um, np.ones(n)]), np.column_stack([centres, np.ones(bins)])
        adata.obsm["spatial"] = target @ np.linalg.lstsq(source, section.pixels, rcond=None)[0]
    return replace(section, adata=adata, pitch_um=float(bin_um), spot_diameter_um=float(bin_um))
