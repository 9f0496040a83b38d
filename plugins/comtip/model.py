"""CoMTIP, the model that users call: sections in, embeddings and predictions out (Qian et al., arXiv 2509.16892)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from stzoo import (
    BlockShare,
    DataError,
    Encoder,
    GeneError,
    Prediction,
    Progress,
    Ranks,
    Section,
    UsageError,
    WeightsError,
    head_descriptions,
    head_tensors,
    take_heads,
)
from stzoo.core.arrays import Floats
from stzoo.core.data.section import PER_10K
from stzoo.core.runtime.blocks import stack_blocks
from stzoo.core.runtime.ranks import ALONE
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.embedding import append_context, count_own_features, fill_spot_table, has_statistics
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.vocabulary import Vocabulary
from stzoo.plugins.comtip.weights import StartingWeights, Weights, read_start, restore_vocabulary
from stzoo.plugins.comtip.zero_shot import check_genes

if TYPE_CHECKING:
    from stzoo import Tunable
    from torch import Tensor


class CoMTIP(Encoder):
    """Contrastive masked text-image pretraining (Qian et al., arXiv 2509.16892; a re-implementation, see the docs).

    Both branches, masked feature modelling, symmetric InfoNCE, zero-shot prediction over a grid of expression values,
    and the extensions that a small model needs (specification, section 7). Heads: ``ridge``, ``mlp`` and ``retrieval``
    on the frozen image embedding, ``zero-shot`` through the text branch.
    """

    name = "comtip"
    config_class = CoMTIPConfig
    config: CoMTIPConfig
    heads = ("zero-shot",)

    def __init__(self, config: Any = None, *, device: str = "cpu", seed: int = 0) -> None:
        super().__init__(config, device=device, seed=seed)
        self._weights: Weights | None = None
        self._is_quantised = False
        self._start: StartingWeights | None = None

    @property
    def uses_attention(self) -> bool:
        """True: both towers are transformers."""
        return True

    @property
    def embedding_dim(self) -> int:
        """Width of :meth:`embed`: z_img and patch statistics, the spot's own and averaged over each context width."""
        return count_own_features(self.config) * (1 + len(self.config.context_um))

    @property
    def has_statistics(self) -> bool:
        """Whether :meth:`embed` carries the patch statistics."""
        return has_statistics(self.config)

    @property
    def weights(self) -> Weights:
        """The trained state: networks, gene vocabulary, zero-shot calibration.

        Raises
        ------
        WeightsError
            The model was neither trained nor loaded: nothing is ever predicted from random weights.
        """
        if self._weights is None:
            raise WeightsError(
                "this 'comtip' has no weights",
                todo="load some: stzoo.load('comtip-tiny'), or train it: stzoo train comtip",
            )
        return self._weights

    @property
    def network(self) -> CoMTIPNetwork:
        """Both towers; raises as :attr:`weights` does."""
        return self.weights.network

    @property
    def vocabulary(self) -> Vocabulary:
        """The gene vocabulary of the training; raises as :attr:`weights` does."""
        return self.weights.vocabulary

    @property
    def validated(self) -> Mapping[str, Any]:
        """How validation chose the weights (see :class:`Model`)."""
        return self._weights.validated if self._weights is not None else {}

    def to(self, device: str) -> Self:
        """Move the networks to a device."""
        if self._weights is not None:
            self._weights.network.to(device)
        return super().to(device)

    def genes(self, head: str | None = None) -> list[str]:
        """Return the genes that a head can predict; zero-shot also takes other symbols, by spelling or description."""
        return list(self.vocabulary.genes) if head == "zero-shot" else super().genes(head)

    def genes_not_trained_on(self, genes: Sequence[str]) -> list[str]:
        """Return the genes outside the training vocabulary, which are known by description or spelling only."""
        return [gene for gene in genes if self.vocabulary.place(gene) < 0]

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot from the image: z_img and patch statistics, and their Gaussian means over neighbours.

        See :class:`Encoder`.
        """
        blocks = self.embed_blocks(section, batch_size=batch_size, progress=progress)
        return stack_blocks(blocks, section.n_spots, self.embedding_dim)

    def embed_blocks(
        self,
        section: Section,
        share: BlockShare | None = None,
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Iterator[tuple[slice, Floats]]:
        """Embed block by block (see :class:`Encoder`); the features that neighbours average are kept in a table."""
        share = share or BlockShare(section.n_spots)
        own = self._fill_table(section, share, batch_size, progress)
        yield from append_context(own, self.config, section, share.blocks)

    def image_vectors(self, section: Section, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Return z_img of every spot in the shared space, float32 (n, embedding_dim of the config), not normalised."""
        own = self._fill_table(section, BlockShare(section.n_spots), batch_size, progress)
        return own[:, : self.config.embedding_dim].copy()

    def _fill_table(self, section: Section, share: BlockShare, batch_size: int, progress: Progress | None) -> Floats:
        """Return z_img and patch statistics of every spot (:func:`~stzoo.plugins.comtip.embedding.fill_spot_table`)."""
        if not len(section):
            raise DataError(f"section '{section.name}' has no spot to embed", todo="give one with spots")
        return fill_spot_table(self.network.eval(), self.config, section, share, self.device, batch_size, progress)

    def expression_vectors(self, section: Section, batch_size: int = 64) -> Floats:
        """Return z_txt of every spot's profile, float32 (n, embedding_dim of the config), not normalised.

        Genes of the vocabulary that the section lacks are left out; a spot without counts gets NaN.

        Raises
        ------
        GeneError
            The section has no gene of the vocabulary.
        """
        has = set(section.genes)
        genes = [gene for gene in self.vocabulary.genes if gene in has]
        if not genes:
            raise GeneError(
                f"'{section.name}' has none of the {len(self.vocabulary.genes)} genes of these weights",
                todo="check that genes are named by symbols of the same species",
            )
        counted = section.counted
        values = torch.from_numpy(section.expression(genes, target=PER_10K)[counted])
        out = np.full((section.n_spots, self.config.embedding_dim), np.nan, dtype=np.float32)
        text = self.network.eval().text
        with torch.inference_mode():
            code = text.encode_genes(self.vocabulary.inputs(genes).to(self.device))
            parts = [text.encode_profiles(code, some.to(self.device)).cpu() for some in torch.split(values, batch_size)]
        if parts:
            out[counted] = torch.cat(parts).numpy()
        return out

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
        """Predict expression of every spot from the image (see :class:`Encoder`); counts are never read."""
        if self.check_head(head) != "zero-shot":
            yield from super().predict_blocks(
                section, genes, share, head=head, batch_size=batch_size, progress=progress
            )
            return
        share, wanted = (
            share or BlockShare(section.n_spots),
            list(genes) if genes is not None else self.vocabulary.genes,
        )
        check_genes(wanted)
        own = self._fill_table(section, share, batch_size, progress)
        for rows in share.blocks:
            z = np.array(own[rows, : self.config.embedding_dim])
            yield rows, self.weights.zero_shot(self.config).predict(z, wanted)

    def query(
        self, section: Section, genes: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None
    ) -> Floats:
        """Score a gene set at each spot from the image alone, float32 (n,), in standard deviations.

        The symbols are free; see :meth:`genes_not_trained_on` for those that training never saw.
        """
        check_genes(genes)
        return self.weights.zero_shot(self.config).levels(self.image_vectors(section, batch_size, progress), genes)

    def train(
        self,
        sections: Sequence[Section],
        *,
        out: Path,
        validation: Sequence[Section] = (),
        resume: bool = False,
        progress: bool = True,
        trackers: Sequence[str] = (),
        ranks: Ranks = ALONE,
    ) -> Mapping[str, float]:
        """Train both towers, calibrate zero-shot and fit the ridge head, all on the measured spots of ``sections``.

        With ``validation``, the averaged weights (those that a run returns) are scored every ``train.validate_every``
        steps by ``train.watch`` on the held-out sections (see :class:`~stzoo.plugins.comtip.training.Examiner`).
        """
        from stzoo.plugins.comtip.training import Pretraining

        run = Pretraining(self.config, self.seed, self.device, out, self._start, resume, progress, trackers, ranks)
        self._weights, done = run.run(sections, validation)
        self._finish(sections)
        return done.losses

    def tunable(
        self, sections: Sequence[Section], *, cache: Path, contrast: bool = False, ranks: Ranks = ALONE
    ) -> Tunable:
        """Hand the image tower, and with ``contrast`` the text tower too, to fine-tuning (see :class:`Encoder`)."""
        from stzoo.plugins.comtip.finetuning import CoMTIPTuning

        if self._is_quantised:
            raise UsageError("a model in int8 can not be tuned", todo="load the weights again, without --int8")
        return CoMTIPTuning(
            self.weights,
            self.config,
            sections,
            contrast=contrast,
            cache=cache,
            seed=self.seed,
            ranks=ranks,
            adopt=self.adopt_tuned,
        )

    def adopt_tuned(self, sections: Sequence[Section]) -> None:
        """Adopt the network as it was tuned in place; recalibrate zero-shot for the genes that ``sections`` share."""
        self.weights.round_to_half()
        self.weights.validated = {}  # of what they were before
        shared = set.intersection(*(set(section.genes) for section in sections))
        genes = [gene for gene in self.vocabulary.genes if gene in shared]
        self._calibrate(sections, genes)

    def start_from(self, folder: str | Path, *, source: str = "") -> Self:
        """Start training from a published checkpoint of CLIP, PLIP, DINO or a ViT (see :func:`read_start`)."""
        self._start = read_start(Path(folder), self.config, source or Path(folder).name)
        return self

    def quantise(self) -> Self:
        """Compute the image tower in int8 on the CPU (see :meth:`Encoder.quantise`)."""
        from stzoo.core.nn import quantise

        self.to("cpu")
        self.network.image.vit = quantise(self.network.image.vit)
        self._is_quantised = True
        return self

    def initialise(self, sections: Sequence[Section]) -> Self:
        """Give this model random weights, with a ridge head fitted on ``sections``: a control, never a default."""
        from stzoo.plugins.comtip.training import initialise_weights

        self._weights = initialise_weights(sections, self.config, self.seed, self._start)
        self._finish(sections)
        return self

    def _finish(self, sections: Sequence[Section]) -> None:
        """Round new weights to half precision, calibrate zero-shot prediction, and fit the ridge head."""
        self.weights.round_to_half()
        genes = list(self.vocabulary.genes)
        self._calibrate(sections, genes)
        self.fit(sections, genes, head="ridge")

    def _calibrate(self, sections: Sequence[Section], genes: Sequence[str]) -> None:
        """Calibrate zero-shot prediction of some vocabulary genes on the measured spots."""
        if not genes:
            return
        vectors, truth = [], []
        for section in sections:
            counted = section.counted
            vectors.append(self.image_vectors(section)[counted])
            truth.append(section.expression(genes, target=PER_10K)[counted])
        text = self.weights.zero_shot(self.config)
        text.calibrate(np.concatenate(vectors), genes, np.concatenate(truth))
        self.weights.calibration = text.calibration

    def state(self) -> dict[str, Tensor]:
        """Return the tensors in half precision (training ends by rounding to it, so nothing is lost)."""
        if self._is_quantised:
            raise UsageError("a model in int8 can not be saved", todo="load the weights again, and save those")
        return {**self.weights.state(), **head_tensors(self.fitted_heads)}

    def description(self) -> dict[str, Any]:
        """Return gene vocabulary, expression scale and fitted heads."""
        return {**self.weights.description(), "heads": head_descriptions(self.fitted_heads)}

    def assets(self) -> dict[str, bytes]:
        """Return the tokenizer of gene symbols."""
        return self.weights.assets()

    def restore(self, state: Mapping[str, Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]) -> None:
        """Take over saved weights, strictly (see :class:`Model`)."""
        vocabulary = restore_vocabulary(self.config, description, assets)
        own = take_heads(self, state, description)
        self._weights = Weights.restore(self.config, vocabulary, own, description)
