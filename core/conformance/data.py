"""Sections to ask about, and how they are changed: all drawn by :mod:`stzoo.core.io.synthetic`, with fixed seeds."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from stzoo.core.arrays import Mask
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.synthetic import synthetic_section
from stzoo.core.slides.slide import Slide

SIDE_UM = {"encoder": 1000, "imputer": 1500, "aligner": 1000}
PITCH_UM = {"encoder": 200.0, "imputer": 100.0, "aligner": 70.0}
"""Size of the tissue and distance of its spots: as small as every shipped method can work with."""
TRUTH = Transform.rigid(25.0, (40.0, -30.0), centre=(500.0, 500.0))
"""How the second section of an aligner lies on the first."""


@lru_cache(maxsize=16)
def draw_tissue(seed: int, role: str, pitch_um: float | None = None) -> Section:
    """Draw the tissue of a role once; nobody may change it."""
    return synthetic_section(side_um=SIDE_UM[role], pitch_um=pitch_um or PITCH_UM[role], seed=seed, name=f"kit-{seed}")


def sections_of(role: str, *, whole: bool = False) -> tuple[Section, Section]:
    """Return the two sections of a role.

    Parameters
    ----------
    role
        An encoder gets slides at 0.5 µm/px; an imputer sections of which a quarter is measured; an aligner an odd
        piece of tissue and the same piece, turned.
    whole
        The first section of an imputer is measured everywhere.
    """
    first, second = draw_tissue(0, role), draw_tissue(1, role)
    if role == "encoder":
        return at_mpp(first, 0.5), at_mpp(second, 0.5)
    if role == "imputer":
        return (first if whole else sparse(first)), sparse(second)
    odd = cut(first)
    return odd, move_section(odd, TRUTH)


def copy_section(section: Section, **changes: Any) -> Section:
    """Return a section whose table may be changed."""
    return replace(section, adata=section.adata.copy(), **changes)


def denser(section: Section, factor: int) -> Section:
    """Return a section with ``factor`` squared spots for each: its counts are the spot's, drawn again."""
    from anndata import AnnData

    pitch = section.pitch_um or 100.0
    steps = np.indices((factor, factor)).reshape(2, -1).T / factor  # (factor², 2), x then y
    px = pitch / (section.mpp or 1.0)
    counts = np.repeat(_dense(section), len(steps), axis=0)
    adata = AnnData(np.random.default_rng(11).poisson(counts).astype(np.float32))
    adata.var_names = section.genes
    adata.obsm["spatial"] = (section.pixels[:, None] + (steps - 0.5) * px).reshape(-1, 2)
    lattice = section.adata.obs[["array_col", "array_row"]].to_numpy()
    col, row = np.rint((lattice[:, None] + steps) * factor).astype(int).reshape(-1, 2).T
    adata.obs["array_row"], adata.obs["array_col"] = row, col
    made = replace(section, adata=adata, pitch_um=pitch / factor, spot_diameter_um=pitch / factor / 2)
    if section.measured.all():
        return made
    adata.obs["measured"] = quarter(made)
    return made


def _dense(section: Section) -> Any:
    """Return the counts of all spots, hidden ones too, (n, g)."""
    x = section.adata.X
    return np.asarray(x.todense() if hasattr(x, "todense") else x)


def sparse(section: Section) -> Section:
    """Call a quarter of the spots measured; the counts of the others stay where they are."""
    made = copy_section(section)
    made.adata.obs["measured"] = quarter(section)
    return made


def quarter(section: Section) -> Mask:
    """Return every second spot of every second row, bool (n,)."""
    row, col = (np.asarray(section.adata.obs[key]) for key in ("array_row", "array_col"))
    return np.asarray((row % 2 == 0) & (col % 2 == 0))


def other_tissue(section: Section) -> Section:
    """Return a section of the same name, genes and places with other counts and another picture, all measured."""
    made = copy_section(section)
    rng = np.random.default_rng(99)
    made.adata.X = rng.poisson(3.0, made.adata.shape).astype(np.float32)
    made.adata.obs.drop(columns=["measured", "total_counts"], errors="ignore", inplace=True)
    if made.slide is None:
        return made
    return replace(made, slide=Slide.from_array(pixels_of(made)[::-1, ::-1].copy(), mpp=made.mpp))


def pixels_of(section: Section) -> Any:
    """Return the whole slide, uint8 (h, w, 3)."""
    slide = section.require_slide()
    return slide.read(0, 0, slide.width, slide.height)


def without_mpp(slide: Slide) -> Slide:
    """Return the same picture, of unknown µm/px."""
    return Slide.from_array(slide.read(0, 0, slide.width, slide.height))


def at_mpp(section: Section, mpp: float) -> Section:
    """Return the same tissue on a slide of other µm/px, interpolated."""
    slide = section.require_slide()
    assert section.mpp is not None
    made = copy_section(section, mpp=mpp)
    made.adata.obsm["spatial"] = section.pixels * (section.mpp / mpp)
    return replace(made, slide=Slide.from_array(slide.read(0, 0, slide.width, slide.height, mpp=mpp), mpp=mpp))


def finer(section: Section) -> Section:
    """Return the same tissue at half the µm/px: every pixel becomes four, so that nothing else is new."""
    assert section.mpp is not None
    made = copy_section(section, mpp=section.mpp / 2)
    made.adata.obsm["spatial"] = section.pixels * 2
    if made.slide is None:
        return made
    pixels = pixels_of(section).repeat(2, axis=0).repeat(2, axis=1)
    return replace(made, slide=Slide.from_array(pixels, mpp=made.mpp))


def cut(section: Section) -> Section:
    """Return an odd piece of the tissue, that no turn or mirror lays upon itself; the rest of the slide is white."""
    slide = section.require_slide()
    y, x = (axis / slide.height for axis in np.mgrid[: slide.height, : slide.width])
    inside = _inside(x, y)
    pixels = np.where(inside[..., None], pixels_of(section), np.uint8(255))
    places = section.pixels / slide.height
    kept = section.take(_inside(places[:, 0], places[:, 1]))
    return replace(kept, slide=Slide.from_array(pixels, mpp=section.mpp))


def _inside(x: Any, y: Any) -> Any:
    body = ((x - 0.5) / 0.36) ** 2 + ((y - 0.5) / 0.28) ** 2 < 1
    notch = (x - 0.62) ** 2 + (y - 0.24) ** 2 < 0.12**2
    foot = (np.abs(x - 0.32) < 0.09) & (np.abs(y - 0.74) < 0.1)
    return (body & ~notch) | foot


def move_section(section: Section, transform: Transform) -> Section:
    """Return a section as it lies after a transform, picture and spots."""
    assert section.mpp is not None
    pixels = pixels_of(section)
    turned = transform.apply_image(pixels, mpp=section.mpp, shape=pixels.shape[:2])
    made = copy_section(section, name=f"{section.name}-moved", slide=Slide.from_array(turned, mpp=section.mpp))
    made.adata.obsm["spatial"] = transform.apply(section.um) / section.mpp
    return made


def poison(section: Section, hidden: Mask, level: float) -> Section:
    """Write absurd values for hidden spots into everything of a table that counts could be read from.

    Parameters
    ----------
    hidden
        bool (n,).
    level
        What is written: ``X``, layers, ``obs``, ``obsm``, ``obsp``, ``uns``, ``var`` and ``raw`` follow from it.
    """
    made = copy_section(section)
    adata, n = made.adata, section.n_spots
    counts = np.array(_dense(made), dtype=np.float32)
    counts[hidden] = level
    adata.X = counts
    adata.raw = adata.copy()
    total = np.nan_to_num(section.depth)
    total[hidden] = level * section.n_genes
    adata.layers["counts"], adata.layers["log1p"] = counts.copy(), np.log1p(np.abs(counts))
    for column in ("n_counts", "total_counts", "clusters"):
        adata.obs[column] = total
    adata.obsm["X_pca"] = counts[:, : min(5, counts.shape[1])].copy()
    adata.obsp["connectivities"] = np.outer(total, total) if n < 500 else None
    adata.var["means"] = counts.mean(axis=0)
    adata.uns["counts"], adata.uns["level"] = counts.copy(), level
    return made


def reorder_genes(section: Section) -> Section:
    """Return a section with its genes in another order."""
    order = np.random.default_rng(3).permutation(section.n_genes)
    return replace(section, adata=section.adata[:, order].copy())


def store_counts(section: Section, kind: str) -> Section:
    """Return a section whose counts are kept as ``csc``, ``int32``, ``float32`` or ``float64``."""
    made, dense = copy_section(section), _dense(section)
    if kind == "csc":
        from scipy.sparse import csc_matrix

        made.adata.X = csc_matrix(dense)
    else:
        made.adata.X = dense.astype(kind)
    return made
