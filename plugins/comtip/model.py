"""CoMTIP as users touch it: sections in, embeddings and predictions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from stzoo.core import config as configs
from stzoo.core.blocks import Share, stacked
from stzoo.core.distributed import ALONE, Ranks
from stzoo.core.errors import DataError, GeneError, UsageError, WeightsError, nearest
from stzoo.core.heads import head_descriptions, head_tensors, take_heads
from stzoo.core.interfaces import Encoder, Prediction, Progress
from stzoo.core.neighbourhood import Neighbourhood
from stzoo.core.repository import empty, restore_module
from stzoo.core.section import Floats, Section
from stzoo.core.seeding import seeded
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem
from stzoo.plugins.comtip.descriptions import packaged
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.spots import spot_table
from stzoo.plugins.comtip.texture import N_STATISTICS
from stzoo.plugins.comtip.vocabulary import Vocabulary
from stzoo.plugins.comtip.zero_shot import Calibration, calibration, set_levels, soft_values, value_grid

if TYPE_CHECKING:
    from stzoo.core.finetuning.contract import Tunable
    from stzoo.plugins.comtip.starting import Start
    from torch import Tensor

_TOKENIZER = "tokenizer.json"
_CALIBRATION = "zero_shot.calibration"

TARGET = 1e4
"""Expression is log1p of counts per 10,000."""
GENES = 256
"""Genes of zero-shot prediction at a time."""


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
        self._network: Network | None = None
        self._vocabulary: Vocabulary | None = None
        self._calibration = Calibration(torch.zeros(0, 4))
        self._is_quantised = False
        self._start: Start | None = None
        self._started_from: dict[str, str] = {}

    @property
    def embedding_dim(self) -> int:
        """Width of :meth:`embed`: the shared space and the statistics, once for the spot and once for each context."""
        own = self.config.embedding_dim + (2 * N_STATISTICS if self.has_statistics else 0)
        return own * (1 + len(self.config.context_um))

    @property
    def has_statistics(self) -> bool:
        """Whether :meth:`embed` carries the patch statistics."""
        return self.config.statistics and self.config.vision.stem is Stem.texture

    @property
    def network(self) -> Network:
        """The networks.

        Raises
        ------
        WeightsError
            The model was neither trained nor loaded: nothing is ever predicted from random weights.
        """
        if self._network is None:
            raise self._weightless()
        return self._network

    def _weightless(self) -> WeightsError:
        return WeightsError(
            "this 'comtip' has no weights",
            todo="load some: stzoo.load('comtip-tiny'), or train it: stzoo train comtip",
        )

    def to(self, device: str) -> Self:
        """Move the networks to a device."""
        if self._network is not None:
            self._network.to(device)
        return super().to(device)

    @property
    def vocabulary(self) -> Vocabulary:
        """The genes of the training; see :attr:`network` for when there are none."""
        if self._vocabulary is None:
            raise self._weightless()
        return self._vocabulary

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
        own, near = self._own(section, share, batch_size, progress), Neighbourhood(section.um)
        for rows in share.blocks:
            yield rows, np.concatenate([own[rows], *near.means(own, rows, self.config.context_um)], axis=1)

    def image_vectors(self, section: Section, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Return z_img of every spot in the shared space, float32 (n, embedding_dim of the config), not normalised."""
        own = self._own(section, Share(section.n_spots), batch_size, progress)
        return own[:, : self.config.embedding_dim].copy()

    def _own(self, section: Section, share: Share, batch_size: int, progress: Progress | None) -> Floats:
        """Return a table of what every spot shows (see :func:`~stzoo.plugins.comtip.spots.spot_table`)."""
        if not len(section):
            raise DataError(f"section '{section.name}' has no spot to embed", todo="give one with spots")
        return spot_table(
            self.network.eval(), self.config, section, share, self.device, self.has_statistics, batch_size, progress
        )

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
        usable = section.measured & (np.nan_to_num(section.depth) > 0)
        values = torch.from_numpy(section.expression(genes, target=TARGET)[usable])
        out = np.full((section.n_spots, self.config.embedding_dim), np.nan, dtype=np.float32)
        text = self.network.eval().text
        with torch.inference_mode():
            code = text.encode_genes(self.vocabulary.inputs(genes).to(self.device))
            parts = [text.profiles(code, some.to(self.device)).cpu() for some in torch.split(values, batch_size)]
        if parts:
            out[usable] = torch.cat(parts).numpy()
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
        self._check(wanted)
        own = self._own(section, share, batch_size, progress)
        for rows in share.blocks:
            yield rows, self._zero_shot(np.array(own[rows, : self.config.embedding_dim]), wanted)

    def query(
        self, section: Section, genes: Sequence[str], *, batch_size: int = 64, progress: Progress | None = None
    ) -> Floats:
        """Return how high a set of genes is at each spot, from the image alone, float32 (n,) in standard deviations.

        The symbols are free; see :meth:`unseen` for those that training never saw.
        """
        places = [self.vocabulary.place(gene) for gene in genes]
        with torch.inference_mode():
            code = self._code(genes)
            z = torch.from_numpy(self.image_vectors(section, batch_size, progress)).to(self.device)
            return set_levels(self.network, z, code, *self._calibration.levels(places))

    def _zero_shot(self, z: Floats, genes: Sequence[str]) -> Prediction:
        """Return soft template matching over the grid of values, calibrated for genes that were seen."""
        images = torch.from_numpy(z).to(self.device)
        grid = value_grid(self.config.text.value_max, self.config.objective.grid, self.device)
        values, spread = np.empty((2, len(z), len(genes)), dtype=np.float32)
        self._check(genes)
        with torch.inference_mode():
            for start in range(0, len(genes), GENES):
                some = slice(start, min(start + GENES, len(genes)))
                values[:, some], spread[:, some] = soft_values(self.network, images, self._code(genes[some]), grid)
        scale, offset = self._calibration.of([self.vocabulary.place(gene) for gene in genes])
        return Prediction(values * scale + offset, tuple(genes), "zero-shot", spread * scale)

    def _code(self, genes: Sequence[str]) -> Any:
        self._check(genes)
        return self.network.text.encode_genes(self.vocabulary.inputs(genes).to(self.device))

    def _check(self, genes: Sequence[str]) -> None:
        if not genes or not all(gene.strip() for gene in genes):
            raise GeneError("no gene to predict", todo="name at least one gene symbol")

    def train(
        self,
        sections: Sequence[Section],
        *,
        out: Path,
        resume: bool = False,
        progress: bool = True,
        trackers: Sequence[str] = (),
        ranks: Ranks = ALONE,
    ) -> Mapping[str, float]:
        """Train both towers, calibrate zero-shot and fit the ridge head, all on the measured spots of ``sections``."""
        from stzoo.core.tile_cache import cache_folder, drop_own_cache
        from stzoo.core.train import fit
        from stzoo.plugins.comtip.data import gather
        from stzoo.plugins.comtip.training import TrainingTask

        network = self._new(sections).to(self.device)
        genes = list(self.vocabulary.genes)
        data = gather(
            sections, genes, self.config, self.seed, cache=cache_folder(out), progress=progress and ranks.is_main
        )
        started = frozenset(self._start.state) if self._start else frozenset[str]()
        with seeded(self.seed + 1):  # what only training uses starts at random as well
            task = TrainingTask(network, data, self.vocabulary.inputs(genes), self.config, started, ranks)
        run = {
            "config": configs.dump(self.config),
            "sections": [s.name for s in sections],
            "started_from": self._started_from,
        }
        done = fit(
            task,
            out=out,
            steps=self.config.train.steps,
            seed=self.seed,
            config=run,
            resume=resume,
            checkpoint_every=self.config.train.checkpoint_every,
            progress=progress,
            trackers=trackers,
            ranks=ranks,
            sharded=task.blocks(),
        )
        if ranks.is_main:  # all ranks are past their last step
            drop_own_cache(out)
        self._network = self._network_of(self.vocabulary).to(self.device)
        self._network.load_state_dict(task.averaged())
        self._network.requires_grad_(False).eval()
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
        self._network = self.network.requires_grad_(False).eval()
        _halve(self.network)
        shared = set.intersection(*(set(section.genes) for section in sections))
        genes = [gene for gene in self.vocabulary.genes if gene in shared]
        self._calibrate(sections, genes)

    def start_from(self, folder: str | Path, *, source: str = "") -> Self:
        """Let training start from a checkpoint of CLIP, PLIP, DINO or a ViT (see :func:`read_start`)."""
        from stzoo.plugins.comtip.starting import read_start

        self._start = read_start(Path(folder), self.config, source or Path(folder).name)
        self._started_from = {"source": self._start.source, "sha256": self._start.sha256}
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
        self._network = self._new(sections).requires_grad_(False).eval()
        self._finish(sections)
        return self

    def _new(self, sections: Sequence[Section]) -> Network:
        """Return a network for the genes of some sections, with the weights that training starts from."""
        from stzoo.plugins.comtip.data import training_genes

        genes = training_genes(sections, self.config.train.min_detected, self.config.train.max_genes)
        self._vocabulary = Vocabulary(genes, self.config.text, self._start.tokenizer if self._start else None)
        with seeded(self.seed):
            network = self._network_of(self._vocabulary)
        if self._start is not None:
            self._start.fill(network)
        return network

    def _network_of(self, vocabulary: Vocabulary) -> Network:
        v = vocabulary
        return Network(self.config, len(v.genes), v.n_tokens, v.n_described, v.suffix)

    def _finish(self, sections: Sequence[Section]) -> None:
        """Calibrate zero-shot prediction, and fit the ridge head."""
        _halve(self.network)
        genes = list(self.vocabulary.genes)
        self._calibration = Calibration(torch.tensor([[1.0, 0.0, 0.0, 1.0]]).repeat(len(genes), 1))
        self._calibrate(sections, genes)
        self.fit(sections, genes, head="ridge")

    def _calibrate(self, sections: Sequence[Section], genes: Sequence[str]) -> None:
        """Calibrate zero-shot prediction of some genes of the vocabulary on measured spots."""
        if not genes:
            return
        places = [self.vocabulary.place(gene) for gene in genes]
        table = self._calibration.table.clone()
        table[places] = torch.tensor([1.0, 0.0, 0.0, 1.0])
        self._calibration = Calibration(table)
        vectors, truth = [], []
        for section in sections:
            usable = section.measured & (np.nan_to_num(section.depth) > 0)
            vectors.append(self.image_vectors(section)[usable])
            truth.append(section.expression(genes, target=TARGET)[usable])
        predicted = self._zero_shot(np.concatenate(vectors), genes).values
        table[places] = calibration(predicted, np.concatenate(truth)).table
        self._calibration = Calibration(table)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, half precision (training ended by rounding to it, so nothing is lost)."""
        if self._is_quantised:
            raise UsageError("a model in int8 can not be saved", todo="load the weights again, and save those")
        own = {f"network.{name}": tensor.half() for name, tensor in self.network.state_dict().items()}
        return {**own, _CALIBRATION: self._calibration.table, **head_tensors(self.fitted_heads)}

    def description(self) -> dict[str, Any]:
        """Return vocabulary, scale and heads."""
        return {
            "genes": list(self.vocabulary.genes),
            "expression": "log1p of counts per 10,000",
            **({"gene_text": packaged().sha256} if self.vocabulary.n_described else {}),
            **({"started_from": self._started_from} if self._started_from else {}),
            "heads": head_descriptions(self.fitted_heads),
        }

    def assets(self) -> dict[str, bytes]:
        """Return the tokenizer of gene symbols."""
        return {_TOKENIZER: self.vocabulary.dumps()}

    def restore(self, state: Mapping[str, Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]) -> None:
        """Take over saved weights, strictly (see :class:`Model`)."""
        genes = description.get("genes")
        if not (isinstance(genes, list) and genes and all(isinstance(gene, str) for gene in genes)):
            raise WeightsError("the repository has no gene vocabulary", todo="pull the weights again")
        if _TOKENIZER not in assets:
            raise WeightsError(f"the repository has no {_TOKENIZER}", todo="pull the weights again")
        vocabulary = Vocabulary.restored(genes, self.config.text, assets[_TOKENIZER])
        if vocabulary.n_described and description.get("gene_text") != packaged().sha256:
            raise WeightsError(
                "these weights were trained with another table of gene descriptions than this stzoo has",
                todo="install the version of stzoo that they were made with, or newer weights",
            )
        own = take_heads(self, state, description)
        table = own.pop(_CALIBRATION, None)
        if table is None or tuple(table.shape) != (len(genes), 4):
            raise WeightsError(f"tensor '{_CALIBRATION}' is missing or not ({len(genes)}, 4)")
        with empty():
            network = self._network_of(vocabulary)
        stray = [key for key in own if not key.startswith("network.")]
        if stray:
            raise WeightsError(f"tensor '{stray[0]}' is not known to the model{nearest(stray[0], own)}")
        restore_module(network, {key.removeprefix("network."): value for key, value in own.items()})
        self._network = network.requires_grad_(False).eval()
        self._vocabulary, self._calibration = vocabulary, Calibration(table)
        started_from = description.get("started_from")
        self._started_from = dict(started_from) if isinstance(started_from, Mapping) else {}


def _halve(network: Network) -> None:
    """Round every weight to half precision, so that what is used is what is saved."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
