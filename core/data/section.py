"""Section and Stack: the data that readers, models and writers exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from stzoo.core.arrays import Floats, Mask, Points
from stzoo.core.errors import DataError, UnitsError

if TYPE_CHECKING:
    from anndata import AnnData
    from stzoo.core.geometry.transform import Transform
    from stzoo.core.slides.slide import Slide


_AT_ONCE = 4096
"""Spots per chunk when counts are made dense or summed."""

KEPT_OBS = ("array_row", "array_col", "in_tissue")
"""Columns of ``obs`` that are kept when spots are hidden: none is derived from counts."""


PER_10K = 1e4
"""Depth that models' expression is scaled to: log1p of counts per 10,000."""


@dataclass(frozen=True)
class Section:
    """One tissue section: spots with counts and positions, and optionally the slide image.

    Parameters
    ----------
    adata
        Spots x genes. ``X`` holds raw counts (NaN rows where hidden): dense, CSR, or CSR on disk with rows read on
        demand (:func:`stzoo.core.io.read.read` with ``lazy=True``); ``obsm["spatial"]`` pixels
        (x, y) of the full-resolution slide, float64 (n, 2), and/or ``obsm["spatial_um"]`` micrometres;
        ``obs["measured"]`` bool (absent: all measured).
    name
        Name of the section, e.g. ``"C5"``.
    slide
        The H&E image, read lazily by tile, or None.
    mpp
        Micrometres per pixel of ``obsm["spatial"]`` (and of the slide at full resolution), or None if unknown.
    spot_diameter_um, pitch_um
        Diameter of a spot and centre-to-centre distance, in micrometres, or None if unknown.
    source
        Path it was read from.
    """

    adata: AnnData
    name: str
    slide: Slide | None = None
    mpp: float | None = None
    spot_diameter_um: float | None = None
    pitch_um: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Validate the units."""
        for unit in ("mpp", "spot_diameter_um", "pitch_um"):
            value = getattr(self, unit)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UnitsError(f"{unit} is {value!r}, expected a positive number", where=self.source or self.name)

    def __len__(self) -> int:
        return int(self.adata.n_obs)

    @property
    def n_spots(self) -> int:
        """Number of spots."""
        return int(self.adata.n_obs)

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return int(self.adata.n_vars)

    @property
    def genes(self) -> list[str]:
        """Names of the genes, in the order of the columns of ``adata``."""
        return [str(gene) for gene in self.adata.var_names]

    @property
    def measured(self) -> Mask:
        """Mask of measured spots, bool (n,)."""
        if "measured" not in self.adata.obs:
            return np.ones(self.n_spots, dtype=bool)
        return np.asarray(self.adata.obs["measured"], dtype=bool)

    @property
    def um(self) -> Points:
        """Positions of the spots in micrometres, float64 (n, 2), x then y.

        Raises
        ------
        UnitsError
            The section has pixels but no µm/px.
        """
        if "spatial_um" in self.adata.obsm:
            return np.asarray(self.adata.obsm["spatial_um"], dtype=np.float64)
        if self.mpp is None:
            raise UnitsError(
                f"section '{self.name}' has no µm/px, so distances are unknown",
                where=self.source or None,
                todo="give it: --mpp VALUE, or stzoo.read(..., mpp=VALUE)",
            )
        return self.pixels * self.mpp

    @property
    def pixels(self) -> Points:
        """Positions of the spots in pixels of the full-resolution slide, float64 (n, 2), x then y."""
        if "spatial" not in self.adata.obsm:
            raise DataError(
                f"section '{self.name}' has no pixel positions (obsm['spatial'])", where=self.source or None
            )
        return np.asarray(self.adata.obsm["spatial"], dtype=np.float64)

    def require_slide(self) -> Slide:
        """Return the slide image; raise an error if there is none."""
        if self.slide is None:
            raise DataError(
                f"section '{self.name}' has no slide image, which this model needs",
                where=self.source or None,
                todo="give it: --image FILE, or stzoo.read(..., image=FILE)",
            )
        return self.slide

    def gene_index(self, genes: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the columns of the named genes, intp (g,).

        Raises
        ------
        GeneError
            A gene is not in the section (the closest name is given).
        """
        columns = self.adata.var_names.get_indexer(list(genes))
        if (columns < 0).any():  # given as another name (e.g. an Ensembl id), or missing
            from stzoo.core.data.genes import match_genes

            where = self.source or f"section '{self.name}'"
            found = match_genes(list(dict.fromkeys(genes)), self.adata.var).require_all(where).found
            columns = self.adata.var_names.get_indexer([found[gene] for gene in genes])
        return np.asarray(columns, dtype=np.intp)

    def counts(self, genes: Sequence[str] | None = None) -> Floats:
        """Return raw counts as a dense array, float32 (n, g), NaN where hidden."""
        columns = None if genes is None else self.gene_index(genes)
        dense = np.empty((self.n_spots, self.n_genes if columns is None else len(columns)), dtype=np.float32)
        for rows, x in self._rows():
            some = x if columns is None else x[:, columns]
            dense[rows] = some.toarray() if hasattr(some, "toarray") else some
        dense[~self.measured] = np.nan
        return dense

    def _rows(self) -> Iterator[tuple[slice, Any]]:
        """Yield chunks of a few thousand rows of ``X``, loaded into memory if it is on disk."""
        for start in range(0, self.n_spots, _AT_ONCE):
            rows = slice(start, min(start + _AT_ONCE, self.n_spots))
            yield rows, self.adata.X[rows]

    @property
    def depth(self) -> Points:
        """Total counts of each spot over all genes, float64 (n,), NaN where hidden."""
        if "total_counts" in self.adata.obs:
            total = np.array(self.adata.obs["total_counts"], dtype=np.float64)
        else:
            total = np.empty(self.n_spots)
            for rows, x in self._rows():
                total[rows] = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
        total[~self.measured] = np.nan
        return total

    @property
    def counted(self) -> Mask:
        """Mask of measured spots with at least one count, bool (n,): the spots that heads are fitted on."""
        return self.measured & (np.nan_to_num(self.depth) > 0)

    def expression(self, genes: Sequence[str] | None = None, *, target: float | None = None) -> Floats:
        """Return log-normalised expression: ``log1p(counts / depth * target)``.

        Parameters
        ----------
        genes
            Genes to return; by default all. Depth is always the total over all genes of the section.
        target
            Depth to scale to; by default the median depth of the measured spots. Use 1e4 for counts per 10,000.

        Returns
        -------
        float32 (n, g), NaN where hidden; all zero for a measured spot without counts.
        """
        depth = self.depth
        if target is None:
            seen = depth[self.measured & (depth > 0)]
            target = float(np.median(seen)) if seen.size else 1.0
        scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
        values: Floats = np.log1p(self.counts(genes) * scale[:, None].astype(np.float32))
        return values

    def take(self, spots: Mask | npt.NDArray[np.intp] | slice) -> Section:
        """Return a subset of the spots (a mask, indices or a slice); counts on disk are loaded."""
        return replace(self, adata=self.adata[spots].copy())

    def take_genes(self, genes: Sequence[str]) -> Section:
        """Return a subset of the genes; depth stays the total over all genes (``obs["total_counts"]``)."""
        depth = self.depth
        adata = self.adata[:, self.gene_index(genes)].copy()
        adata.obs["total_counts"] = depth
        return replace(self, adata=adata)

    def hide(self, measured: Mask) -> Section:
        """Return the section with hidden spots: counts of all spots outside ``measured`` are NaN.

        Everything derived from counts is removed too: layers, uns, obsm other than positions, obs columns other than
        :data:`KEPT_OBS`. A hidden spot keeps only its position and its place on the slide.

        Parameters
        ----------
        measured
            bool (n,); spots that are hidden already stay hidden.
        """
        from anndata import AnnData

        measured = np.asarray(measured, dtype=bool)
        if measured.shape != (self.n_spots,):
            raise DataError(f"the measured mask has shape {measured.shape}, expected ({self.n_spots},)")
        measured = measured & self.measured
        shape = (self.n_spots, self.n_genes)
        if measured.any():
            x, depth = self.counts(), self.depth
            x[~measured], depth[~measured] = np.nan, np.nan
        else:  # no spot is measured: a single broadcast NaN stands for all counts
            x, depth = np.broadcast_to(np.float32(np.nan), shape), np.full(self.n_spots, np.nan)
        obs = self.adata.obs[[column for column in KEPT_OBS if column in self.adata.obs]].copy()
        obs["total_counts"], obs["measured"] = depth, measured
        places = {key: self.adata.obsm[key] for key in ("spatial", "spatial_um") if key in self.adata.obsm}
        var = self.adata.var[[]].copy()
        return replace(self, adata=AnnData(x, obs=obs, var=var, obsm=places))

    def without_counts(self) -> Section:
        """Return the section without counts, as allowed for predictions from the image."""
        return self.hide(np.zeros(self.n_spots, dtype=bool))

    def hide_unmeasured(self) -> Section:
        """Return the section without counts of unmeasured spots, as allowed for aligners."""
        return self if self.measured.all() else self.hide(self.measured)


@dataclass(frozen=True)
class Stack:
    """Serial sections of one sample.

    Parameters
    ----------
    sections
        Sections in order of depth.
    z_um
        Depth of each section in micrometres; by default its index (one unit apart).
    transforms
        For each section the transform from its micrometres to the common frame; None: it is in that frame already.
    """

    sections: tuple[Section, ...]
    z_um: tuple[float, ...] = ()
    transforms: tuple[Transform | None, ...] = field(default=())

    def __post_init__(self) -> None:
        """Fill in defaults and validate the lengths."""
        if not self.sections:
            raise DataError("a stack needs at least one section")
        n = len(self.sections)
        object.__setattr__(self, "z_um", tuple(self.z_um) or tuple(float(i) for i in range(n)))
        object.__setattr__(self, "transforms", tuple(self.transforms) or (None,) * n)
        for what in ("z_um", "transforms"):
            if len(getattr(self, what)) != n:
                raise DataError(f"the stack has {n} sections but {len(getattr(self, what))} entries in {what}")

    def __len__(self) -> int:
        return len(self.sections)

    def um(self, index: int) -> Points:
        """Return positions of a section's spots in the common frame, micrometres, float64 (n, 2)."""
        own, transform = self.sections[index].um, self.transforms[index]
        return own if transform is None else transform.apply(own)

    def between(self, moving: int, fixed: int) -> Transform:
        """Return the transform from micrometres of one section to those of another, through the common frame.

        It includes the spot matches of the two sections if the transforms imply them (when the common frame is that of
        a section of the stack).

        Raises
        ------
        DataError
            The transform of ``fixed`` folds, so it has no inverse.
        """
        from stzoo.core.geometry.transform import Transform

        there, back = self.transforms[moving], self.transforms[fixed]
        if back is None:
            return Transform.identity() if there is None else there
        return back.inverse() if there is None else there.then(back.inverse())

    @property
    def genes(self) -> list[str]:
        """Genes shared by all sections, in the order of the first."""
        shared = set.intersection(*(set(section.genes) for section in self.sections))
        return [gene for gene in self.sections[0].genes if gene in shared]
