"""Validation of sections, whatever file they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
from stzoo.core.data.lazy import pieces
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError


def check_section(section: Section) -> Section:
    """Return the section; raise an error that names the invalid field.

    Raises
    ------
    DataError
        No spots or genes, duplicate names, counts that are NaN, infinite or negative, positions that are missing,
        not finite or mostly outside the slide.
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
    check_places(adata.obsm, where)
    _check_slide(section)
    return section


def share_outside(section: Section) -> float:
    """Return the share of spots whose centre is outside the slide (0 without a slide)."""
    if section.slide is None or "spatial" not in section.adata.obsm:
        return 0.0
    x, y = section.pixels.T
    inside = (x >= 0) & (y >= 0) & (x <= section.slide.width) & (y <= section.slide.height)
    return float(1 - inside.mean())


def check_places(obsm: Any, where: object) -> None:
    """Raise an error if positions are missing, not finite, misshapen or all identical.

    Parameters
    ----------
    obsm
        The ``obsm`` of an AnnData; ``spatial`` (pixels) and ``spatial_um`` (µm) are checked.
    where
        File or section for the error message.

    Raises
    ------
    DataError
        Names the invalid field.
    """
    if "spatial" not in obsm and "spatial_um" not in obsm:
        raise DataError(
            "there are no positions: neither obsm['spatial'] (pixels) nor obsm['spatial_um'] (µm)",
            where=f"{where}, obsm has {', '.join(obsm) or 'nothing'}",
            todo="put x and y of each spot into obsm['spatial']",
        )
    for key in ("spatial", "spatial_um"):
        if key not in obsm:
            continue
        place = np.asarray(obsm[key])
        if place.ndim != 2 or place.shape[1] != 2 or place.dtype.kind not in "fiu" or not np.isfinite(place).all():
            raise DataError(
                f"obsm['{key}'] has shape {place.shape} and type {place.dtype}, or is not finite",
                where=where,
                todo="give finite x and y, float (n, 2); remove spots without place",
            )
        if len(place) > 1 and (place == place[0]).all():
            raise DataError(
                f"all {len(place)} spots stand at one place, ({place[0, 0]:g}, {place[0, 1]:g})",
                where=f"{where}, obsm['{key}']",
                todo="give every spot its own position",
            )


def _check_slide(section: Section) -> None:
    where = section.source
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
    for start, part in pieces(x):
        _check_part(section, part, section.adata.obs_names[measured][start:])


def _check_part(section: Section, x: Any, spots: Any) -> None:
    data = np.asarray(x.data if hasattr(x, "tocoo") else x)
    if data.dtype.kind not in "fiub":
        raise DataError(f"counts are {data.dtype}, expected numbers", where=section.source)
    for what, bad in (("NaN or infinite", ~np.isfinite(data)), ("negative", data < 0)):
        if bad.any():
            row, column = _first(x, bad)
            raise DataError(
                f"{int(bad.sum())} counts are {what}, e.g. spot '{spots[row]}', gene '{section.genes[column]}'",
                where=section.source,
                todo="give raw counts; leave unmeasured spots out, or mark them false in obs['measured']",
            )


def _first(x: Any, bad: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, int]:
    """Return row and column of the first bad value of a matrix (``bad`` is a mask of its stored values)."""
    if hasattr(x, "tocoo"):
        coo = x.tocoo()
        at = int(np.flatnonzero(bad)[0])
        return int(coo.row[at]), int(coo.col[at])
    row, column = np.argwhere(bad)[0]
    return int(row), int(column)
