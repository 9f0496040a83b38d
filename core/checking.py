"""What every section has to be, whatever file it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
from stzoo.core.errors import DataError
from stzoo.core.section import Section


def check_section(section: Section) -> Section:
    """Return the section, or refuse it with the field that is wrong.

    Raises
    ------
    DataError
        No spots or genes, duplicate names, counts that are NaN, infinite or negative, positions that are missing
        or not finite.
    """
    adata, where = section.adata, section.source
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(
            f"the section is empty: {adata.n_obs} spots x {adata.n_vars} genes", where=where, todo="check the filters"
        )
    for what, names in (("barcode", adata.obs_names), ("gene", adata.var_names)):
        twice = names[names.duplicated()]
        if len(twice):
            raise DataError(
                f"{len(twice)} {what}s stand more than once, e.g. '{twice[0]}'",
                where=where,
                todo=f"give every {what} one {'row' if what == 'barcode' else 'column'}",
            )
    _check_counts(section)
    if "spatial" not in adata.obsm and "spatial_um" not in adata.obsm:
        raise DataError("the section has no positions (obsm['spatial'] or obsm['spatial_um'])", where=where)
    for key in ("spatial", "spatial_um"):
        if key in adata.obsm:
            place = np.asarray(adata.obsm[key])
            if place.ndim != 2 or place.shape[1] != 2 or not np.isfinite(place.astype(float)).all():
                raise DataError(f"obsm['{key}'] is not finite (n, 2)", where=where, todo="remove spots without place")
    return section


def _check_counts(section: Section) -> None:
    x, measured = section.adata.X, section.measured
    if x is None:
        raise DataError("the section has no counts (X)", where=section.source)
    if not measured.all():
        x = x[measured]
    data = _data(x)
    if data.dtype.kind not in "fiub":
        raise DataError(f"counts are {data.dtype}, expected numbers", where=section.source)
    for what, bad in (("NaN or infinite", ~np.isfinite(data)), ("negative", data < 0)):
        if bad.any():
            raise DataError(
                f"{int(bad.sum())} counts are {what}{_place(section, x, what)}",
                where=section.source,
                todo="give raw counts; leave unmeasured spots out, or mark them in obs['measured']",
            )


def _place(section: Section, x: Any, what: str) -> str:
    def wrong(values: Any) -> Any:
        return ~np.isfinite(values) if what.startswith("NaN") else values < 0

    if hasattr(x, "tocoo"):
        coo = x.tocoo()
        at = int(np.flatnonzero(wrong(coo.data))[0])
        row, column = coo.row[at], coo.col[at]
    else:
        row, column = (int(i[0]) for i in np.nonzero(wrong(np.asarray(x))))
    spot = section.adata.obs_names[section.measured][row]
    return f", e.g. spot '{spot}', gene '{section.genes[column]}'"


def counts_kind(section: Section) -> str:
    """Return ``"raw"`` for whole numbers, ``"not integers"`` otherwise (for ``stzoo data inspect``)."""
    data = _data(section.adata.X)
    data = data[np.isfinite(data)]
    return "raw" if bool((data == np.rint(data)).all()) else "not integers"


def _data(x: Any) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(x.data if hasattr(x, "tocoo") else x)
