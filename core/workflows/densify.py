"""Interpolated planes between the sections of a volume, labelled as interpolated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Doubles, Points
from stzoo.core.data.section import Section, Stack
from stzoo.core.errors import DataError, UsageError
from stzoo.core.io.volume import COMMON, INTERPOLATED, Volume, is_interpolated


def densify(volume: Volume, between: int) -> Volume:
    """Return the volume with interpolated planes between neighbouring sections.

    A plane has the positions of the central section, in the common frame, wherever both neighbours have a spot within
    one pitch. Values are interpolated linearly on a Delaunay triangulation within each neighbour (nearest spot outside
    the convex hull) and linearly in depth between the two. Confidence is interpolated likewise, then halved per section
    spacing (the smallest of the stack) of distance to the nearest section: a rule of ours, not calibrated.

    Parameters
    ----------
    between
        Number of planes between two neighbours, evenly spaced in depth.

    Returns
    -------
    A volume whose planes have ``uns["stzoo"]["interpolated"]``, no measured spots and no counts; real sections are
    unchanged. Existing interpolated planes are replaced.

    Raises
    ------
    UsageError
        ``between`` is less than 1.
    DataError
        Two neighbours do not overlap.
    """
    if between < 1:
        raise UsageError(f"{between} planes between sections", todo="give 1 or more")
    central = volume.names[volume.central]
    stack = _real(volume.stack)
    spacing = float(np.diff(stack.z_um).min()) if len(stack) > 1 else 1.0
    at = volume.stack.sections[volume.central].adata.obsm[COMMON]
    sections, depths, transforms = [stack.sections[0]], [stack.z_um[0]], [stack.transforms[0]]
    for i in range(1, len(stack)):
        planes = _between(stack, i, at, between, spacing, volume.stack.sections[volume.central])
        sections += [plane for plane, _ in planes] + [stack.sections[i]]
        depths += [z for _, z in planes] + [stack.z_um[i]]
        transforms += [None] * len(planes) + [stack.transforms[i]]
    names = [section.name for section in sections]
    dense = Stack(tuple(sections), tuple(depths), tuple(transforms))
    return replace(volume, stack=dense, central=names.index(central))


def _real(stack: Stack) -> Stack:
    """Return the stack without interpolated planes."""
    real = [i for i, section in enumerate(stack.sections) if not is_interpolated(section)]
    transforms = tuple(stack.transforms[i] for i in real)
    return Stack(tuple(stack.sections[i] for i in real), tuple(stack.z_um[i] for i in real), transforms)


def _between(
    stack: Stack, index: int, at: Points, count: int, spacing: float, like: Section
) -> list[tuple[Section, float]]:
    """Return the planes between a section and the one above it, with their depths."""
    above, below = stack.sections[index - 1], stack.sections[index]
    top, bottom = _resample(above, at), _resample(below, at)
    both = np.isfinite(top[0][:, 0]) & np.isfinite(bottom[0][:, 0])
    if not both.any():
        raise DataError(
            f"sections '{above.name}' and '{below.name}' have no place in common",
            todo="align the stack: stzoo impute STACK --aligner rigid",
        )
    first, gap = stack.z_um[index - 1], stack.z_um[index] - stack.z_um[index - 1]
    planes = []
    for k in range(1, count + 1):
        share = k / (count + 1)
        values, trust = ((1 - share) * a[both] + share * b[both] for a, b in zip(top, bottom, strict=True))
        trust = trust * 0.5 ** (min(share, 1 - share) * gap / spacing)
        about = {"above": above.name, "below": below.name, "share": share, "note": "interpolated, not measured"}
        name = f"{above.name}-{below.name}.{k}"
        planes.append((_plane(name, like, both, at[both], values, trust, about), first + share * gap))
    return planes


def _resample(section: Section, at: Points) -> tuple[Doubles, Doubles]:
    """Interpolate values and confidence of a section at other positions, float64 (m, g) each, NaN off its tissue."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError, cKDTree

    um = section.adata.obsm[COMMON]
    tree = cKDTree(um)
    away, nearest = tree.query(at)
    pitch = section.pitch_um or float(np.median(np.asarray(tree.query(um, k=2)[0])[:, 1]))
    found = []
    for key in ("imputed", "confidence"):
        given = np.asarray(section.adata.layers[key], dtype=np.float64)
        values = given[nearest]
        try:
            linear = np.asarray(LinearNDInterpolator(um, given)(at))
        except QhullError:  # fewer than three spots, or all collinear: no triangulation
            linear = np.full_like(values, np.nan)
        inside = np.isfinite(linear).all(axis=1)
        values[inside] = linear[inside]
        values[away > pitch] = np.nan
        found.append(values)
    return found[0], found[1]


def _plane(
    name: str, like: Section, kept: npt.NDArray[np.bool_], um: Points, values: Doubles, trust: Doubles, about: object
) -> Section:
    import pandas as pd
    from anndata import AnnData

    obs = like.adata.obs[[c for c in ("array_row", "array_col") if c in like.adata.obs]][kept].copy()
    obs["measured"] = False
    var = pd.DataFrame(index=like.adata.var_names)
    adata = AnnData(np.full(values.shape, np.nan, dtype=np.float32), obs=obs, var=var)
    adata.obsm["spatial_um"], adata.obsm[COMMON] = um, um.copy()
    adata.layers["imputed"], adata.layers["confidence"] = values.astype(np.float32), trust.astype(np.float32)
    adata.uns["stzoo"] = {INTERPOLATED: about}
    return Section(adata, name, pitch_um=like.pitch_um, spot_diameter_um=like.spot_diameter_um)
