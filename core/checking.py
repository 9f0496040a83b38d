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
        or not finite, or that lie mostly outside the slide.
    """
    adata, where = section.adata, section.source
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(
            f"the section is empty: {adata.n_obs} spots x {adata.n_vars} genes",
            where=where,
            todo="check that spots and genes were not all filtered out",
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
    _check_places(section)
    return section


def share_outside(section: Section) -> float:
    """Return the share of spots whose centre lies outside the slide (0 where there is none)."""
    if section.slide is None or "spatial" not in section.adata.obsm:
        return 0.0
    x, y = section.pixels.T
    inside = (x >= 0) & (y >= 0) & (x <= section.slide.width) & (y <= section.slide.height)
    return float(1 - inside.mean())


def _check_places(section: Section) -> None:
    obsm, where = section.adata.obsm, section.source
    if "spatial" not in obsm and "spatial_um" not in obsm:
        raise DataError(
            "there are no positions: neither obsm['spatial'] (pixels) nor obsm['spatial_um'] (µm)",
            where=where,
            todo="put x and y of each spot into obsm['spatial']",
        )
    for key in ("spatial", "spatial_um"):
        if key in obsm:
            place = np.asarray(obsm[key])
            if place.ndim != 2 or place.shape[1] != 2 or not np.isfinite(place.astype(float)).all():
                raise DataError(
                    f"obsm['{key}'] is not finite (n, 2)", where=where, todo="remove the spots without a place"
                )
    outside = share_outside(section)
    if outside > 0.5 and section.slide is not None:
        low, high = section.pixels.min(axis=0), section.pixels.max(axis=0)
        raise DataError(
            f"{outside:.0%} of the spots lie outside the slide: it is {section.slide.width} x {section.slide.height}"
            f" px, the spots reach from ({low[0]:.0f}, {low[1]:.0f}) to ({high[0]:.0f}, {high[1]:.0f})",
            where=f"{where}, slide {section.slide.path or 'in the file'}",
            todo="give the full-resolution image that the pixel positions belong to (--image FILE)",
        )


def _check_counts(section: Section) -> None:
    x, measured = section.adata.X, section.measured
    if x is None:
        raise DataError("there are no counts: X is empty", where=section.source, todo="put raw counts into X")
    if not measured.all():
        x = x[measured]
    data = np.asarray(x.data if hasattr(x, "tocoo") else x)
    if data.dtype.kind not in "fiub":
        raise DataError(f"counts are {data.dtype}, expected numbers", where=section.source)
    for what, bad in (("NaN or infinite", ~np.isfinite(data)), ("negative", data < 0)):
        if bad.any():
            row, column = _first(x, bad)
            raise DataError(
                f"{int(bad.sum())} counts are {what}, e.g. spot '{section.adata.obs_names[measured][row]}',"
                f" gene '{section.genes[column]}'",
                where=section.source,
                todo="give raw counts; leave unmeasured spots out, or mark them false in obs['measured']",
            )


def _first(x: Any, bad: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, int]:
    """Return row and column of the first bad value of a matrix (``bad`` runs along its stored values)."""
    if hasattr(x, "tocoo"):
        coo = x.tocoo()
        at = int(np.flatnonzero(bad)[0])
        return int(coo.row[at]), int(coo.col[at])
    row, column = np.argwhere(bad)[0]
    return int(row), int(column)
