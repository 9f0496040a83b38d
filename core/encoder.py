"""The contract of an encoder: it embeds the spots of a section from its image, and predicts expression through a head.

Every call takes whole sections, never loose patches, so a model that looks at all spots and their positions
at once (slide-level) fits as well as one that looks at a spot at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.errors import DataError, UsageError, nearest
from stzoo.core.model import Model
from stzoo.core.runtime.blocks import Share
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from stzoo.core.tunable import Tunable


@dataclass(frozen=True)
class Prediction:
    """Predicted expression.

    Parameters
    ----------
    values
        float32 (n_spots, n_genes), log1p of counts per 10,000 unless the model says otherwise.
    genes
        Names of the columns.
    head
        Which head predicted: ``ridge``, ``retrieval``, ``zero-shot`` ...
    uncertainty
        float32 (n_spots, n_genes) >= 0, in the units of ``values``, or None.
    """

    values: Floats
    genes: tuple[str, ...]
    head: str
    uncertainty: Floats | None = None

    @classmethod
    def joined(cls, blocks: Iterable[tuple[slice, Prediction]], n_spots: int) -> Prediction:
        """Return the predictions of all blocks of ``n_spots`` spots as one."""
        values, uncertainty, last = np.empty((n_spots, 0), np.float32), None, None
        for rows, last in blocks:
            if rows.start == 0:
                values = np.empty((n_spots, len(last.genes)), dtype=np.float32)
                uncertainty = None if last.uncertainty is None else np.empty_like(values)
            values[rows] = last.values
            if uncertainty is not None:
                uncertainty[rows] = last.uncertainty
        if last is None:
            raise DataError("there is no spot to predict", todo="give a section with spots")
        return cls(values, last.genes, last.head, uncertainty)


class Encoder(Model):
    """Embeds the spots of a section from its image, and predicts expression through a head."""

    heads: ClassVar[tuple[str, ...]] = ("ridge", "mlp", "retrieval")
    """Heads that :meth:`predict` accepts; the first is the default."""

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """Width of the embedding."""

    @abstractmethod
    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot from the image.

        Parameters
        ----------
        section
            A section with a slide and µm/px; expression is not read.
        batch_size
            Spots at a time; it bounds memory and does not change the result.

        Returns
        -------
        float32 (n_spots, embedding_dim).
        """

    def embed_blocks(
        self, section: Section, share: Share | None = None, *, batch_size: int = 64, progress: Progress | None = None
    ) -> Iterator[tuple[slice, Floats]]:
        """Embed a section block by block, so that no more than a block is held at a time.

        By default :meth:`embed` is called, and every process embeds the whole section. An encoder that can do better
        overrides this, computes its own blocks only, keeps what neighbours need of each other in ``share.table``, and
        waits for the others (``share.wait``) before its first block, not later.

        Parameters
        ----------
        section, batch_size, progress
            As :meth:`embed`.
        share
            The blocks wanted; by default all.

        Yields
        ------
        Rows and their embedding, float32 (m, embedding_dim): the rows of :meth:`embed`, in order.
        """
        whole = self.embed(section, batch_size=batch_size, progress=progress)
        for rows in (share or Share(section.n_spots)).blocks:
            yield rows, whole[rows]

    def quantised(self) -> Self:
        """Compute in 8-bit integers on the CPU from now on: faster, not quite the same, and not to be saved.

        Raises
        ------
        UsageError
            The encoder has no such form.
        """
        raise UsageError(f"'{self.name}' has no int8 form", todo="use it as it is, without --int8")

    def tunable(
        self, sections: Sequence[Section], *, cache: Path, contrast: bool = False, ranks: Ranks = ALONE
    ) -> Tunable:
        """Make the encoder ready to be fine-tuned on the measured spots of some sections.

        An encoder that offers this can be tuned in full and by low-rank adapters; the others have their heads fitted.

        Parameters
        ----------
        sections
            Sections with slides and counts.
        cache
            Folder in which what is read of the slides may be kept (:func:`stzoo.core.slides.tile_cache.cache_folder`).
        contrast
            The model's own objective is wanted beside the supervised one.
        ranks
            The processes that share every batch.

        Raises
        ------
        UsageError
            The encoder has nothing to tune, or no objective of its own.
        """
        raise UsageError(f"'{self.name}' has no network to tune, only heads", todo="tune its head: --tune head")

    def fit(self, sections: Sequence[Section], genes: Sequence[str] | None = None, *, head: str = "ridge") -> Self:
        """Fit a head on the measured spots of some sections (the encoder itself stays as it is).

        Parameters
        ----------
        sections
            Sections with slides and counts; only ``measured`` spots are used.
        genes
            Genes to predict; by default all that every section has.
        head
            One of :attr:`heads` that is fitted.
        """
        from stzoo.core.heads.base import fit_head

        self.fitted_heads[head] = fit_head(self, sections, genes, head)
        return self

    @property
    def fitted_heads(self) -> dict[str, Any]:
        """Heads fitted so far, by name (they are saved with the model)."""
        heads: dict[str, Any] = self.__dict__.setdefault("_fitted_heads", {})
        return heads

    def genes(self, head: str | None = None) -> list[str]:
        """Return the genes that a head can predict."""
        fitted = self.fitted_heads.get(head or self.heads[0])
        return list(fitted.genes) if fitted is not None else []

    def predict(
        self,
        section: Section,
        genes: Sequence[str] | None = None,
        *,
        head: str | None = None,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Prediction:
        """Predict expression of every spot from the image; counts of the section are never read.

        Parameters
        ----------
        genes
            Genes wanted; by default all that the head knows.
        head
            One of :attr:`heads`; by default the first.

        Raises
        ------
        GeneError
            The head does not know a gene.
        UsageError
            There is no such head, or it has not been fitted.
        """
        blocks = self.predict_blocks(section, genes, head=head, batch_size=batch_size, progress=progress)
        return Prediction.joined(blocks, section.n_spots)

    def predict_blocks(
        self,
        section: Section,
        genes: Sequence[str] | None = None,
        share: Share | None = None,
        *,
        head: str | None = None,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Iterator[tuple[slice, Prediction]]:
        """Predict block by block (see :meth:`predict`); a model that predicts in its own way overrides this.

        Parameters
        ----------
        share
            The blocks wanted; by default all.

        Yields
        ------
        Rows and their prediction, in order; genes, head, and whether there is an uncertainty, are always the same.
        """
        head = self.check_head(head)
        if head not in self.fitted_heads:
            raise UsageError(
                f"the {head} head of '{self.name}' has not been fitted",
                todo="fit it first: model.fit(sections, genes, head=...) or --reference SECTION",
            )
        for rows, embedding in self.embed_blocks(section, share, batch_size=batch_size, progress=progress):
            yield rows, self.fitted_heads[head].predict(embedding, genes)

    def check_head(self, head: str | None) -> str:
        """Return the name of a head, the default one for None, or say which there are."""
        head = head or self.heads[0]
        if head not in self.heads:
            raise UsageError(
                f"'{self.name}' has no head '{head}'{nearest(head, self.heads)}", where=f"heads: {self.heads}"
            )
        return head
