"""The interface of encoders: they embed the spots of a section from its image and predict expression with a head.

Every call takes whole sections, never loose patches, so slide-level models that use all spots and their positions
fit in as well as patch-level models.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from stzoo.core.arrays import Array, Floats, Indices
from stzoo.core.data.section import PER_10K, Section
from stzoo.core.discovery.manager import default_manager, resolve
from stzoo.core.errors import DataError, PluginError, UsageError, nearest
from stzoo.core.model import Model
from stzoo.core.runtime.blocks import BlockShare
from stzoo.core.runtime.progress import Progress
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.core.specs import HeadSpec

if TYPE_CHECKING:
    from stzoo.core.tunable import Tunable


_OTHERS = "see 'stzoo zoo list' for weights that do"


@dataclass(frozen=True)
class Prediction:
    """Predicted expression.

    Parameters
    ----------
    values
        float32 (n_spots, n_genes), log1p of counts per 10,000 unless the model documents another scale.
    genes
        Names of the columns.
    head
        Name of the head that predicted: ``ridge``, ``retrieval``, ``zero-shot`` ...
    uncertainty
        float32 (n_spots, n_genes) >= 0, in the units of ``values``, or None.
    """

    values: Floats
    genes: tuple[str, ...]
    head: str
    uncertainty: Floats | None = None

    @classmethod
    def concatenate(cls, blocks: Iterable[tuple[slice, Prediction]], n_spots: int) -> Prediction:
        """Concatenate the predictions of all blocks of a section with ``n_spots`` spots."""
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


class Head(Protocol):
    """Predicts expression from an embedding; plugins provide heads through ``stzoo_heads``."""

    @property
    def genes(self) -> tuple[str, ...]:
        """Predicted genes, in column order."""
        ...

    def predict(self, embedding: Floats, genes: Sequence[str] | None = None) -> Prediction:
        """Predict expression.

        Parameters
        ----------
        embedding
            float32 (n, d).
        genes
            Genes to predict; by default all.

        Raises
        ------
        GeneError
            The head was not fitted for one of the genes.
        """
        ...

    def tensors(self) -> dict[str, Array]:
        """Return the fitted arrays by name."""
        ...

    def description(self) -> dict[str, Any]:
        """Return genes and settings as JSON values."""
        ...

    @classmethod
    def fit(
        cls,
        embedding: Floats,
        expression: Floats,
        group: Indices,
        genes: tuple[str, ...],
        *,
        seed: int = 0,
        start: Self | None = None,
    ) -> Self:
        """Fit a head on measured spots.

        Parameters
        ----------
        embedding, expression, group
            float32 (n, d), float32 (n, g) log-normalised, and the section index of each spot, intp (n,), for
            leave-one-section-out cross-validation of hyperparameters.
        genes
            Names of the g columns.
        seed
            Random seed.
        start
            A fitted head to regularise towards (fine-tuning); ignored by heads without such a penalty.
        """
        ...

    @classmethod
    def restored(cls, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> Self:
        """Rebuild a head from what :meth:`tensors` and :meth:`description` returned."""
        ...


class Encoder(Model):
    """Embeds the spots of a section from its image and predicts expression with a head."""

    heads: ClassVar[tuple[str, ...]] = ()
    """Heads specific to this model (CoMTIP: ``zero-shot``), in addition to those of installed plugins."""
    default_head: ClassVar[str] = "ridge"
    """Head used if none is named."""

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """Dimension of the embedding."""

    @abstractmethod
    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot from the image.

        Parameters
        ----------
        section
            A section with a slide and µm/px; its expression is not read.
        batch_size
            Spots per forward pass; bounds memory, does not change the result.

        Returns
        -------
        float32 (n_spots, embedding_dim).
        """

    def embed_blocks(
        self,
        section: Section,
        share: BlockShare | None = None,
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Iterator[tuple[slice, Floats]]:
        """Embed a section block by block, so that memory holds one block at a time.

        By default this calls :meth:`embed`, and every process embeds the whole section. An encoder that can do better
        overrides it: it computes only its own blocks, shares what neighbouring spots need in ``share.table``, and
        waits for the other processes (``share.wait``) before its first block, not later.

        Parameters
        ----------
        section, batch_size, progress
            As :meth:`embed`.
        share
            Blocks to compute; by default all.

        Yields
        ------
        A slice of rows and their embedding, float32 (m, embedding_dim), in order; equal to :meth:`embed`.
        """
        whole = self.embed(section, batch_size=batch_size, progress=progress)
        for rows in (share or BlockShare(section.n_spots)).blocks:
            yield rows, whole[rows]

    def quantise(self) -> Self:
        """Switch to int8 inference on the CPU, in place: faster, slightly different, cannot be saved.

        Raises
        ------
        UsageError
            The encoder has no int8 version.
        """
        raise UsageError(f"'{self.name}' has no int8 form", todo="use it as it is, without --int8")

    def tunable(
        self, sections: Sequence[Section], *, cache: Path, contrast: bool = False, ranks: Ranks = ALONE
    ) -> Tunable:
        """Prepare the encoder for fine-tuning on the measured spots of some sections.

        Encoders that implement this support full fine-tuning and LoRA; for the others only heads are fitted.

        Parameters
        ----------
        sections
            Sections with slides and counts.
        cache
            Folder for image tiles read from the slides (:func:`stzoo.core.slides.tile_cache.cache_folder`).
        contrast
            Whether to use the model's own (contrastive) objective beside the supervised one.
        ranks
            Processes that share every batch.

        Raises
        ------
        UsageError
            The encoder has no network to tune, or no objective of its own.
        """
        raise UsageError(f"'{self.name}' has no network to tune, only heads", todo="tune its head: --tune head")

    def image_vectors(self, section: Section, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot's image in the joint image-expression space, float32 (n, d)."""
        raise UsageError(f"'{self.name}' has no space that images and expression share", todo=_OTHERS)

    def expression_vectors(self, section: Section, batch_size: int = 64) -> Floats:
        """Embed every spot's expression in the space of :meth:`image_vectors`, float32 (n, d), NaN without counts."""
        raise UsageError(f"'{self.name}' has no space that images and expression share", todo=_OTHERS)

    def query(
        self, section: Section, genes: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None
    ) -> Floats:
        """Score a gene set at every spot from the image alone, float32 (n,), as z-scores."""
        raise UsageError(f"'{self.name}' answers no queries", todo=_OTHERS)

    def genes_not_trained_on(self, genes: Sequence[str]) -> list[str]:
        """Return the genes unseen in training, which the model knows only from their text descriptions."""
        return []

    def initialise(self, sections: Sequence[Section]) -> Self:
        """Initialise random weights for some sections: an untrained control in evaluations, never a default."""
        raise UsageError(f"'{self.name}' can not be used untrained", todo="leave the row out")

    def fit(self, sections: Sequence[Section], genes: Sequence[str] | None = None, *, head: str | None = None) -> Self:
        """Fit a head on the measured spots of some sections; the encoder itself is not changed.

        Parameters
        ----------
        sections
            Sections with slides and counts; only ``measured`` spots are used.
        genes
            Genes to predict; by default those that all sections share.
        head
            A head of an installed plugin (``stzoo_heads``); by default :attr:`default_head`.

        Raises
        ------
        UsageError
            Unknown head, no section, or no gene.
        DataError
            Fewer than two measured spots with counts.
        """
        head = head or self.default_head
        cls = head_class(head)
        embedding, expression, group, names = training_data(self, sections, genes)
        self.fitted_heads[head] = cls.fit(embedding, expression, group, names, seed=self.seed)
        return self

    @property
    def fitted_heads(self) -> dict[str, Head]:
        """Fitted heads by name; they are saved with the model."""
        heads: dict[str, Head] = self.__dict__.setdefault("_fitted_heads", {})
        return heads

    def genes(self, head: str | None = None) -> list[str]:
        """Return the genes that a fitted head can predict."""
        fitted = self.fitted_heads.get(head or self.default_head)
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
        """Predict the expression of every spot from the image; counts of the section are never read.

        Parameters
        ----------
        genes
            Genes to predict; by default all that the head knows.
        head
            A head (:meth:`head_names`); by default :attr:`default_head`.

        Raises
        ------
        GeneError
            The head does not know one of the genes.
        UsageError
            Unknown head, or it has not been fitted.
        """
        blocks = self.predict_blocks(section, genes, head=head, batch_size=batch_size, progress=progress)
        return Prediction.concatenate(blocks, section.n_spots)

    def predict_blocks(
        self,
        section: Section,
        genes: Sequence[str] | None = None,
        share: BlockShare | None = None,
        *,
        head: str | None = None,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Iterator[tuple[slice, Prediction]]:
        """Predict block by block (see :meth:`predict`); models with their own prediction override this.

        Parameters
        ----------
        share
            Blocks to compute; by default all.

        Yields
        ------
        A slice of rows and their prediction, in order; all with the same genes and head, all or none with uncertainty.
        """
        head = self.check_head(head)
        if head not in self.fitted_heads:
            raise UsageError(
                f"the {head} head of '{self.name}' has not been fitted",
                todo="fit it first: model.fit(sections, genes, head=...) or --reference SECTION",
            )
        for rows, embedding in self.embed_blocks(section, share, batch_size=batch_size, progress=progress):
            yield rows, self.fitted_heads[head].predict(embedding, genes)

    def head_names(self) -> list[str]:
        """Return all heads that :meth:`predict` accepts: those of installed plugins and the model's own."""
        return list(dict.fromkeys([*list_heads(), *self.heads]))

    def check_head(self, head: str | None) -> str:
        """Return the validated name of a head; None gives the default. An unknown name raises UsageError."""
        head, known = head or self.default_head, self.head_names()
        if head not in known:
            raise UsageError(
                f"'{self.name}' has no head '{head}'{nearest(head, known)}", where=f"heads: {', '.join(known)}"
            )
        return head


def list_heads() -> list[str]:
    """List the names of the heads that installed plugins provide."""
    return list(dict.fromkeys(spec.name for _, spec in default_manager().specs_of(HeadSpec)))


def head_class(name: str) -> type[Head]:
    """Import the class of a head.

    Raises
    ------
    UsageError
        No plugin provides a head of that name.
    PluginError
        Several plugins provide it, or the target is not a head.
    """
    known = list_heads()
    if name.rpartition(":")[2] not in known:
        raise UsageError(f"there is no head '{name}' to fit{nearest(name, known)}", where=f"heads: {', '.join(known)}")
    plugin, spec = default_manager().find(HeadSpec, name)
    found: type[Head] = resolve(spec.target)
    lacking = [part for part in ("fit", "predict", "tensors", "description", "restored") if not hasattr(found, part)]
    if lacking:
        raise PluginError(f"'{spec.target}' of plugin '{plugin.qualified}' is no head: it has no {lacking[0]}")
    return found


def training_data(
    encoder: Encoder, sections: Sequence[Section], genes: Sequence[str] | None
) -> tuple[Floats, Floats, Indices, tuple[str, ...]]:
    """Return embedding (n, d), expression (n, g) and section index (n,) of all counted spots, and the g genes."""
    if not sections:
        raise UsageError("no section to fit a head on", todo="give at least one section with a slide and counts")
    if genes is None:
        shared = set.intersection(*(set(section.genes) for section in sections))
        genes = [gene for gene in sections[0].genes if gene in shared]
    if not genes:
        raise UsageError("no gene to fit a head for", todo="check that the sections name their genes the same way")
    embeddings, expressions, groups = [], [], []
    for number, section in enumerate(sections):
        usable = section.counted
        embeddings.append(np.asarray(encoder.embed(section), dtype=np.float32)[usable])
        expressions.append(section.expression(genes, target=PER_10K)[usable])
        groups.append(np.full(int(usable.sum()), number, dtype=np.intp))
    group = np.concatenate(groups)
    if len(group) < 2:
        raise DataError(
            f"{len(group)} measured spots with counts in {len(sections)} sections, a head needs at least 2",
            where=", ".join(section.name for section in sections),
        )
    return np.concatenate(embeddings), np.concatenate(expressions), group, tuple(genes)
