"""Align one section to another, assess the quality, and write the results."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stzoo.core.aligner import Aligner
from stzoo.core.arrays import Points
from stzoo.core.data.section import Section
from stzoo.core.geometry.transform import Transform
from stzoo.core.io.write import write
from stzoo.core.model import provenance_of
from stzoo.core.runtime.outputs import writing
from stzoo.core.runtime.progress import Progress
from stzoo.core.workflows.alignment_quality import Quality, quality


@dataclass(frozen=True)
class AlignedPair:
    """An aligned pair of sections.

    Parameters
    ----------
    moving, fixed
        The two sections.
    transform
        From micrometres of ``moving`` to micrometres of ``fixed``.
    quality
        Quality of the alignment.
    model
        Provenance: name of the aligner, versions and options (:func:`stzoo.core.model.provenance_of`).
    """

    moving: Section
    fixed: Section
    transform: Transform
    quality: Quality
    model: dict[str, object]

    def lines(self) -> list[str]:
        """Return lines of text that describe the transform and its quality."""
        name = f"{self.model['model']}: {self.moving.name} onto {self.fixed.name}"
        return [f"{name}: {describe(self.transform, self.moving)}", *self.quality.lines()]

    def report(self) -> dict[str, object]:
        """Return model, transform and quality as JSON values."""
        return {
            "moving": self.moving.name,
            "fixed": self.fixed.name,
            **self.model,
            "matrix_um": self.transform.matrix.tolist(),
            "description": describe(self.transform, self.moving),
            "quality": self.quality.as_dict(),
        }

    def move_section(self) -> Section:
        """Return the moving section in the frame of the fixed one (``obsm["spatial_um"]``), without pixels and slide.

        Those belong to the original image; :meth:`~stzoo.core.geometry.transform.Transform.apply_image` warps it.
        """
        adata = self.moving.adata.copy()
        um = self.transform.apply(self.moving.um)
        for key in ("spatial", "spatial_um"):
            adata.obsm.pop(key, None)
        adata.uns.pop("spatial", None)
        adata.obsm["spatial_um"] = um
        adata.uns["stzoo"] = {**adata.uns.get("stzoo", {}), "aligned": {**self.model, "onto": self.fixed.name}}
        return replace(self.moving, adata=adata, slide=None, mpp=None)

    def write(
        self,
        out: str | Path,
        *,
        plot: str | Path | None = None,
        report: str | Path | None = None,
        moved: str | Path | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the transform (zarr) and optionally a picture, the report (JSON) and the moved section."""
        from stzoo.core.plotting.alignment import plot_alignment

        if plot is not None:
            title = f"{self.model['model']}: {self.moving.name} onto {self.fixed.name}"
            plot_alignment(self.moving, self.fixed, self.transform, plot, title=title, overwrite=overwrite)
        if report is not None:
            with writing(Path(report), overwrite=overwrite) as scratch:
                scratch.write_text(json.dumps(self.report(), indent=1) + "\n", encoding="utf-8")
        if moved is not None:
            write(self.move_section(), moved, overwrite=overwrite)
        self.transform.save(out, overwrite=overwrite)


def align(
    aligner: Aligner, moving: Section, fixed: Section, *, both_ways: bool = False, progress: Progress | None = None
) -> AlignedPair:
    """Align two sections and assess the result; counts of unmeasured spots are removed before the aligner sees them.

    Parameters
    ----------
    both_ways
        Also align the fixed section to the moving one, for :attr:`Quality.consistency_mean_um`; doubles the time.
    """
    sections = moving.hide_unmeasured(), fixed.hide_unmeasured()
    transform = aligner.align(*sections, progress=progress)
    back = aligner.align(*sections[::-1], progress=progress) if both_ways else None
    return AlignedPair(moving, fixed, transform, quality(moving, fixed, transform, back=back), provenance_of(aligner))


def describe(transform: Transform, moving: Section) -> str:
    """Describe a transform in words: mirroring, rotation, shift of the centre, scale, shear, local deformation."""
    centre = moving.um.mean(axis=0)
    u, scale, v = np.linalg.svd(_linear(transform))
    turn = u @ v
    if flipped := np.linalg.det(turn) < 0:
        turn = turn @ np.diag([-1.0, 1.0])
    angle = np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])) % 360
    shift = transform.apply(centre[None])[0] - centre
    said = [f"turned by {angle:.1f}°", "mirrored left to right first" if flipped else "not mirrored"]
    said.append(f"centre shifted by ({shift[0]:+.0f}, {shift[1]:+.0f}) µm")
    said.append(
        "not stretched" if np.abs(scale - 1).max() < 1e-6 else f"stretched by {scale[0]:.3f} and {scale[1]:.3f}"
    )
    if np.isfinite(transform.finest_um):
        said.append("bent")
    if transform.matches is not None:
        said.append(f"{transform.matches.share:.0%} of the spots matched")
    return ", ".join(said)


def _linear(transform: Transform) -> Points:
    """Return the product of the linear parts, (2, 2)."""
    product = np.eye(2)
    for part in transform.parts():
        product = part.matrix[:, :2] @ product
    return product
