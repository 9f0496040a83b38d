"""An aligner that wraps PASTE (Zeira et al. 2022, doi:10.1038/s41592-022-01459-6), from its own package.

PASTE finds how likely each spot of one section stands for each of the other (optimal transport of expression and of
distances), and the rigid motion that follows from it. It knows no mirroring and expects sections that overlap.
"""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from stzoo import Aligner, ConfigError, DataError, Section, Transform


@dataclass
class PasteConfig:
    """Options of 'paste', those of ``paste.pairwise_align``.

    Parameters
    ----------
    alpha
        Weight of distances between spots against expression, 0 to 1.
    dissimilarity
        ``kl`` or ``euclidean``.
    most_spots
        Sections with more spots are refused: memory grows with the product of both.
    """

    alpha: float = 0.1
    dissimilarity: str = "kl"
    most_spots: int = 10_000

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or self.dissimilarity not in ("kl", "euclidean"):
            raise ConfigError(
                f"alpha {self.alpha} or dissimilarity '{self.dissimilarity}' can not be",
                where="config of 'paste'",
                todo="alpha from 0 to 1, dissimilarity kl or euclidean",
            )


class Paste(Aligner):
    """Pairwise alignment of the measured spots by PASTE, and the rigid motion of its stacking."""

    name = "paste"
    config_class = PasteConfig

    def align(self, moving: Section, fixed: Section, *, progress=None) -> Transform:
        """Return the transform from micrometres of ``moving`` to micrometres of ``fixed``."""
        import paste

        genes = [gene for gene in fixed.genes if gene in set(moving.genes)]
        if not genes:
            raise DataError("the sections share no gene, and PASTE compares expression", where=moving.source or None)
        slices = [self._slice(section, genes) for section in (fixed, moving)]
        with contextlib.redirect_stdout(io.StringIO()):
            plan = paste.pairwise_align(
                *slices, alpha=self.config.alpha, dissimilarity=self.config.dissimilarity, gpu_verbose=False
            )
            placed = paste.stack_slices_pairwise(slices, [plan])
        return _rigid(slices[1].obsm["spatial"], placed[1].obsm["spatial"], slices[0], placed[0])

    def _slice(self, section: Section, genes: list[str]):
        """Return an AnnData as PASTE wants it: counts of measured spots, positions in µm."""
        from anndata import AnnData

        seen = section.counted
        if not 3 <= seen.sum() <= self.config.most_spots:
            raise DataError(
                f"'{section.name}' has {seen.sum()} measured spots with counts, PASTE takes 3 to {self.config.most_spots}",
                where=section.source or None,
                todo="measure more, or thin the section",
            )
        adata = AnnData(section.counts(genes)[seen])
        adata.var_names = genes
        adata.obsm["spatial"] = section.um[seen]
        return adata


def _rigid(before: np.ndarray, after: np.ndarray, fixed, fixed_placed) -> Transform:
    """Return the motion from ``before`` to ``after`` (Kabsch), in the frame of the fixed section as it was."""
    after = after + (fixed.obsm["spatial"] - fixed_placed.obsm["spatial"]).mean(axis=0)
    centre, goal = before.mean(axis=0), after.mean(axis=0)
    left, _, right = np.linalg.svd((before - centre).T @ (after - goal))
    turn = (left @ right).T
    return Transform(np.column_stack([turn, goal - turn @ centre]))
