"""Tissue masks of sections in micrometres, from the slide or from the spots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Mask, Points
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UnitsError
from stzoo.core.slides.tissue_mask import tissue_mask

FEWEST_SPOTS = 10
MASK_UM = 16.0
_CELLS = 1000  # maximum side of the raster of spots


@dataclass(frozen=True, eq=False)
class Tissue:
    """A tissue mask and its position in the frame of ``section.um``.

    Parameters
    ----------
    mask
        bool (h, w), true on tissue.
    matrix
        float64 (2, 3), affine map from pixel centres, (column, row), to micrometres.
    """

    mask: Mask
    matrix: Points

    @property
    def pixel_um2(self) -> float:
        """Area of a pixel, square micrometres."""
        return float(abs(np.linalg.det(self.matrix[:, :2])))

    def to_um(self, pixels: Points) -> Points:
        """Return positions (column, row) in micrometres, float64 (n, 2) both."""
        return np.asarray(pixels @ self.matrix[:, :2].T + self.matrix[:, 2])

    def to_pixels(self, um: Points) -> Points:
        """Return micrometres as positions (column, row), float64 (n, 2) both."""
        return np.asarray((um - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T)

    def points(self) -> Points:
        """Return the centres of tissue pixels, micrometres, float64 (n, 2)."""
        return self.to_um(_places(self.mask))

    def outline(self) -> Points:
        """Return the centres of pixels on the tissue border, micrometres, float64 (n, 2)."""
        from scipy.ndimage import binary_erosion

        return self.to_um(_places(self.mask & ~binary_erosion(self.mask)))

    def contains(self, um: Points) -> Mask:
        """Return the mask of points on tissue, bool (n,)."""
        place = np.rint(self.to_pixels(um)).astype(np.int64)
        inside = ((place >= 0) & (place < self.mask.shape[::-1])).all(axis=1)
        found = np.zeros(len(um), dtype=bool)
        found[inside] = self.mask[place[inside, 1], place[inside, 0]]
        return found


@dataclass(frozen=True, eq=False)
class Overview:
    """A downsampled slide.

    Parameters
    ----------
    pixels
        uint8 (h, w, 3).
    matrix
        As in :class:`Tissue`.
    scale
        Pixels of the overview per pixel of the full resolution.
    mpp
        Micrometres per pixel of the overview.
    """

    pixels: npt.NDArray[np.uint8]
    matrix: Points
    scale: float
    mpp: float


def overview(section: Section, um: float = MASK_UM) -> Overview:
    """Return the slide of a section at about ``um`` micrometres per pixel (never upsampled).

    Raises
    ------
    DataError
        There is no slide.
    UnitsError
        There is no µm/px.
    """
    slide = section.require_slide()
    mpp = slide.mpp if section.mpp is None else section.mpp
    if mpp is None:
        raise UnitsError(f"section '{section.name}' has no µm/px", where=section.source or None, todo="--mpp VALUE")
    pixels, scale = slide.thumbnail(max(32, round(max(slide.width, slide.height) * mpp / um)))
    full = _slide_frame(section, mpp)
    turn = full[:, :2] / scale
    return Overview(pixels, np.column_stack([turn, turn @ [0.5, 0.5] + full[:, 2]]), scale, mpp / scale)


def slide_tissue(section: Section, small: Overview) -> Tissue:
    """Return the tissue mask of a slide overview.

    Components without spots (frame, pen, neighbouring tissue) are removed, unless no component has any.

    Raises
    ------
    DataError
        There is no tissue on the slide.
    """
    mask = _with_spots(tissue_mask(small.pixels, mpp=small.mpp), section, small.scale)
    return Tissue(mask, small.matrix)


def spot_tissue(section: Section) -> Tissue:
    """Return the area within one pitch of the spots under tissue, holes filled.

    Raises
    ------
    DataError
        Fewer than 10 spots, or spots at identical positions.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    points = section.um[in_tissue(section)]
    if len(points) < FEWEST_SPOTS:
        raise DataError(
            f"section '{section.name}' has {len(points)} spots, too few to align (at least {FEWEST_SPOTS})",
            where=section.source or None,
        )
    pitch = float(np.percentile(spacing(points), 95))
    extent = np.ptp(points, axis=0).max()
    if not pitch > 0 or not np.isfinite(extent):
        raise DataError(f"the spots of section '{section.name}' lie upon each other", where=section.source or None)
    cell = max(pitch / 5, extent / _CELLS)
    low = points.min(axis=0) - 2 * pitch
    columns, rows = np.ceil((points.max(axis=0) + 2 * pitch - low) / cell).astype(int)
    free = np.ones((rows, columns), dtype=bool)
    place = ((points - low) / cell).astype(int)
    free[place[:, 1], place[:, 0]] = False
    covered = binary_fill_holes(distance_transform_edt(free) * cell <= pitch)
    return Tissue(np.asarray(covered), np.column_stack([np.eye(2) * cell, low + cell / 2]))


def in_tissue(section: Section) -> Mask:
    """Return the mask of spots under tissue, bool (n,), from ``obs["in_tissue"]``; all spots if it marks none."""
    if "in_tissue" not in section.adata.obs:
        return np.ones(len(section), dtype=bool)
    under = section.adata.obs["in_tissue"].to_numpy().astype(bool)
    return np.asarray(under if under.any() else ~under)


def spacing(points: Points) -> Points:
    """Return the distance of each point to its nearest neighbour, float64 (n,)."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(points).query(points, k=[2])[0])[:, 0]


def _places(mask: Mask) -> Points:
    return np.argwhere(mask)[:, ::-1].astype(np.float64)


def _slide_frame(section: Section, mpp: float) -> Points:
    """Return the affine matrix (2, 3) from full-resolution pixels to the frame of ``section.um``.

    That frame may be rotated or shifted against the slide by the reader.
    """
    plain = np.column_stack([np.eye(2) * mpp, [0.0, 0.0]])
    if not {"spatial", "spatial_um"} <= set(section.adata.obsm):
        return plain
    spots = np.column_stack([section.pixels, np.ones(len(section))])
    fit, _, rank, _ = np.linalg.lstsq(spots, section.um, rcond=None)
    return plain if rank < 3 else np.asarray(fit.T)


def _with_spots(mask: Mask, section: Section, scale: float) -> Mask:
    """Remove components of the mask without spots, unless no component has any."""
    from scipy.ndimage import label

    if "spatial" not in section.adata.obsm:
        return mask
    pieces, count = label(mask)
    at = (section.pixels[in_tissue(section)] * scale).astype(int)
    inside = ((at >= 0) & (at < mask.shape[::-1])).all(axis=1)
    spots = np.bincount(pieces[at[inside, 1], at[inside, 0]], minlength=count + 1)
    held = spots >= 0.02 * max(1, inside.sum())
    held[0] = False
    return np.asarray(held[pieces]) if held.any() else mask
