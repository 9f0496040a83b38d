"""CoMTIP as users touch it: sections in, embeddings and predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from stzoo.core.arrays import Floats
from stzoo.core.data.section import Section
from stzoo.core.data.splits import usable
from stzoo.core.errors import DataError, GeneError, UsageError, WeightsError
from stzoo.core.heads.base import TARGET, head_descriptions, head_tensors, take_heads
from stzoo.core.interfaces import Encoder, Prediction, Progress
from stzoo.core.runtime.blocks import Share, stacked
from stzoo.core.runtime.ranks import ALONE, Ranks
from stzoo.plugins.comtip.config import CoMTIPConfig
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.spots import has_statistics, own_width, spot_table, with_context
from stzoo.plugins.comtip.vocabulary import Vocabulary
from stzoo.plugins.comtip.weights import Weights, restored_vocabulary
from stzoo.plugins.comtip.zero_shot import ZeroShot, check_genes

if TYPE_CHECKING:
    from stzoo.core.tunable import Tunable
    from stzoo.plugins.comtip.starting import Start
    from torch import Tensor


class CoMTIP(Encoder):
    """Contrastive masked text-image pretraining (Qian et al., arXiv 2509.16892; a re-implementation, see the docs).

    What is here: both branches, masked feature modelling, symmetric InfoNCE, zero-shot prediction over a grid of
    values, and the extensions that a small model needs (specification, section 7). Heads: ``ridge`` and ``retrieval``
    on the frozen image embedding, ``zero-shot`` through the text branch.
    """

    name = "comtip"
    config_class = CoMTIPConfig
    config: CoMTIPConfig
    heads = ("ridge", "mlp", "retrieval", "zero-shot")

    def __init__(self, config: Any = None, *, device: str = "cpu", seed: int = 0) -> None:
        super().__init__(config, device=device, seed=seed)
        self._weights: Weights | None = None
        self._is_quantised = False
        self._start: Start | None = None

    @property
    def uses_attention(self) -> bool:
        """True: both towers are transformers."""
        return True

    @property
    def embedding_dim(self) -> int:
        """Width of :meth:`embed`: the shared space and the statistics, once for the spot and once for each context."""
        return own_width(self.config) * (1 + len(self.config.context_um))

    @property
    def has_statistics(self) -> bool:
        """Whether :meth:`embed` carries the patch statistics."""
        return has_statistics(self.config)

    @property
    def weights(self) -> Weights:
        """What training gave: networks, genes, calibration.

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
    def network(self) -> Network:
        """The networks; see :attr:`weights` for when there are none."""
        return self.weights.network

    @property
    def vocabulary(self) -> Vocabulary:
        """The genes of the training; see :attr:`weights` for when there are none."""
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
        """Return the genes that a head can predict; zero-shot takes others too, by what is known of their symbols."""
        return list(self.vocabulary.genes) if head == "zero-shot" else super().genes(head)

    def unseen(self, genes: Sequence[str]) -> list[str]:
        """Return the genes that training never saw: known by their description or spelling only."""
        return [gene for gene in genes if self.vocabulary.place(gene) < 0]

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot from the image: z_img, the patch statistics, and their means over neighbours.

        See :class:`Encoder`.
        """
        blocks = self.embed_blocks(section, batch_size=batch_size, progress=progress)
        return stacked(blocks, section.n_spots, self.embedding_dim)

    def embed_blocks(
        self, section: Section, share: Share | None = None, *, batch_size: int = 64, progress: Progress | None = None
    ) -> Iterator[tuple[slice, Floats]]:
        """Embed block by block (see :class:`Encoder`): what neighbours need of a spot is kept in a table."""
        share = share or Share(section.n_spots)
        own = self._own(section, share, batch_size, progress)
        yield from with_context(own, self.config, section, share.blocks)

    def image_vectors(self, section: Section, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Return z_img of every spot in the shared space, float32 (n, embedding_dim of the config), not normalised."""
        own = self._own(section, Share(section.n_spots), batch_size, progress)
        return own[:, : self.config.embedding_dim].copy()

    def _own(self, section: Section, share: Share, batch_size: int, progress: Progress | None) -> Floats:
        """Return a table of what every spot shows (see :func:`~stzoo.plugins.comtip.spots.spot_table`)."""
        if not len(section):
            raise DataError(f"section '{section.name}' has no spot to embed", todo="give one with spots")
        return spot_table(self.network.eval(), self.config, section, share, self.device, batch_size, progress)

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
        counted = usable(section)
        values = torch.from_numpy(section.expression(genes, target=TARGET)[counted])
        out = np.full((section.n_spots, self.config.embedding_dim), np.nan, dtype=np.float32)
        text = self.network.eval().text
        with torch.inference_mode():
            code = text.encode_genes(self.vocabulary.inputs(genes).to(self.device))
            parts = [text.profiles(code, some.to(self.device)).cpu() for some in torch.split(values, batch_size)]
        if parts:
            out[counted] = torch.cat(parts).numpy()
        return out

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
        """Predict expression of every spot from the image (see :class:`Encoder`); counts are never read."""
        if self.check_head(head) != "zero-shot":
            yield from super().predict_blocks(
                section, genes, share, head=head, batch_size=batch_size, progress=progress
            )
            return
        share, wanted = share or Share(section.n_spots), list(genes) if genes is not None else self.vocabulary.genes
        check_genes(wanted)
        own = self._own(section, share, batch_size, progress)
        for rows in share.blocks:
            z = np.array(own[rows, : self.config.embedding_dim])
            yield rows, ZeroShot(self.weights, self.config).predict(z, wanted)

    def query(
        self, section: Section, genes: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None
    ) -> Floats:
        """Return how high a set of genes is at each spot, from the image alone, float32 (n,) in standard deviations.

        The symbols are free; see :meth:`unseen` for those that training never saw.
        """
        check_genes(genes)
        return ZeroShot(self.weights, self.config).levels(self.image_vectors(section, batch_size, progress), genes)

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

        With ``validation`` every ``train.validate_every`` steps the averaged weights, which are those that a run ends
        with, are judged by ``train.watch`` (see :class:`~stzoo.plugins.comtip.judging.Examiner`).
        """
        from stzoo.plugins.comtip.pretraining import Pretraining

        run = Pretraining(self.config, self.seed, self.device, out, self._start, resume, progress, trackers, ranks)
        self._weights, done = run.run(sections, validation)
        self._finish(sections)
        return done.losses

    def tunable(
        self, sections: Sequence[Section], *, cache: Path, contrast: bool = False, ranks: Ranks = ALONE
    ) -> Tunable:
        """Lend the image tower, and with ``contrast`` the text tower, to fine-tuning (see :class:`Encoder`)."""
        from stzoo.plugins.comtip.finetuning import CoMTIPTuning

        if self._is_quantised:
            raise UsageError("a model in int8 can not be tuned", todo="load the weights again, without --int8")
        return CoMTIPTuning(self, sections, contrast, cache, ranks)

    def tuned(self, sections: Sequence[Section]) -> None:
        """Take the network over as it was tuned in place; calibrate anew the genes that ``sections`` have."""
        self.weights.settle()
        self.weights.validated = {}  # of what they were before
        shared = set.intersection(*(set(section.genes) for section in sections))
        genes = [gene for gene in self.vocabulary.genes if gene in shared]
        self._calibrate(sections, genes)

    def start_from(self, folder: str | Path, *, source: str = "") -> Self:
        """Let training start from a checkpoint of CLIP, PLIP, DINO or a ViT (see :func:`read_start`)."""
        from stzoo.plugins.comtip.starting import read_start

        self._start = read_start(Path(folder), self.config, source or Path(folder).name)
        return self

    def quantised(self) -> Self:
        """Compute the image tower in int8 on the CPU (see :meth:`Encoder.quantised`)."""
        from stzoo.core.nn.int8 import quantised

        self.to("cpu")
        self.network.image.vit = quantised(self.network.image.vit)
        self._is_quantised = True
        return self

    def untrained(self, sections: Sequence[Section]) -> Self:
        """Return this model with random weights, its ridge head fitted on ``sections``: a control, never a default."""
        from stzoo.plugins.comtip.pretraining import begun

        self._weights = begun(sections, self.config, self.seed, self._start)
        self._finish(sections)
        return self

    def _finish(self, sections: Sequence[Section]) -> None:
        """Round what is new, calibrate zero-shot prediction, and fit the ridge head."""
        self.weights.settle()
        genes = list(self.vocabulary.genes)
        self._calibrate(sections, genes)
        self.fit(sections, genes, head="ridge")

    def _calibrate(self, sections: Sequence[Section], genes: Sequence[str]) -> None:
        """Calibrate zero-shot prediction of some genes of the vocabulary on measured spots."""
        if not genes:
            return
        vectors, truth = [], []
        for section in sections:
            counted = usable(section)
            vectors.append(self.image_vectors(section)[counted])
            truth.append(section.expression(genes, target=TARGET)[counted])
        ZeroShot(self.weights, self.config).calibrate(np.concatenate(vectors), genes, np.concatenate(truth))

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, half precision (training ended by rounding to it, so nothing is lost)."""
        if self._is_quantised:
            raise UsageError("a model in int8 can not be saved", todo="load the weights again, and save those")
        return {**self.weights.state(), **head_tensors(self.fitted_heads)}

    def description(self) -> dict[str, Any]:
        """Return vocabulary, scale and heads."""
        return {**self.weights.description(), "heads": head_descriptions(self.fitted_heads)}

    def assets(self) -> dict[str, bytes]:
        """Return the tokenizer of gene symbols."""
        return self.weights.assets()

    def restore(self, state: Mapping[str, Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]) -> None:
        """Take over saved weights, strictly (see :class:`Model`)."""
        vocabulary = restored_vocabulary(self.config, description, assets)
        own = take_heads(self, state, description)
        self._weights = Weights.restored(self.config, vocabulary, own, description)
