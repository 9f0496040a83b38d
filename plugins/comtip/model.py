"""CoMTIP as users touch it: sections in, embeddings and predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from stzoo.core import config as configs
from stzoo.core.errors import GeneError, WeightsError, nearest
from stzoo.core.heads import head_descriptions, head_tensors, take_heads
from stzoo.core.interfaces import Encoder, Prediction, Progress
from stzoo.core.repository import restore_module
from stzoo.core.section import Floats, Section
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem
from stzoo.plugins.comtip.inputs import batches, turned, with_context
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.symbols import encode, load_tokenizer, train_tokenizer
from stzoo.plugins.comtip.texture import N_STATISTICS

if TYPE_CHECKING:
    from torch import Tensor

_TOKENIZER = "tokenizer.json"
_CALIBRATION = "zero_shot.calibration"


class CoMTIP(Encoder):
    """Contrastive masked text-image pretraining (Qian et al., arXiv 2509.16892; a re-implementation, see the docs).

    What is here: both branches, masked feature modelling, symmetric InfoNCE, zero-shot prediction over a grid of
    values, and the extensions that a small model needs (specification, section 7). Heads: ``ridge`` and ``retrieval``
    on the frozen image embedding, ``zero-shot`` through the text branch.
    """

    name = "comtip"
    config_class = CoMTIPConfig
    config: CoMTIPConfig
    heads = ("ridge", "retrieval", "zero-shot")

    def __init__(self, config: Any = None, *, device: str = "cpu", seed: int = 0) -> None:
        super().__init__(config, device=device, seed=seed)
        self._network: Network | None = None
        self._tokenizer: Any = None
        self._genes: list[str] = []
        self._calibration = torch.zeros(0, 2)

    @property
    def embedding_dim(self) -> int:
        """Width of :meth:`embed`: the shared space and the statistics, once for the spot and once for each context."""
        own = self.config.embedding_dim + (2 * N_STATISTICS if self._with_statistics else 0)
        return own * (1 + len(self.config.context_um))

    @property
    def _with_statistics(self) -> bool:
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
            raise WeightsError(
                "this 'comtip' has no weights",
                todo="load some: stzoo.load('comtip-tiny'), or train it: stzoo train comtip",
            )
        return self._network

    def to(self, device: str) -> Self:
        """Move the networks to a device."""
        if self._network is not None:
            self._network.to(device)
        return super().to(device)

    def genes(self, head: str | None = None) -> list[str]:
        """Return the genes that a head can predict; zero-shot takes others too, by the pieces of their symbols."""
        return list(self._genes) if head == "zero-shot" else super().genes(head)

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed every spot from the image: z_img, the patch statistics, and their means over neighbours.

        See :class:`Encoder`.
        """
        z, pooled = self._image(section, batch_size, progress)
        own = np.concatenate([z, pooled], axis=1) if self._with_statistics else z
        return with_context(section, own, self.config.context_um)

    def image_vectors(self, section: Section, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Return z_img of every spot in the shared space, float32 (n, embedding_dim of the config), not normalised."""
        return self._image(section, batch_size, progress)[0]

    def _image(self, section: Section, batch_size: int, progress: Progress | None) -> tuple[Floats, Floats]:
        network = self.network.eval()
        vectors, pooled = [], []
        with torch.inference_mode():
            for inputs in batches(section, self.config.vision, batch_size, progress):
                vectors.append(self._posed(network, inputs.to(self.device)).cpu())
                pooled.append(torch.cat([inputs.mean(1), inputs.std(1)], dim=-1) if inputs.ndim == 3 else inputs[:, :0])
        return torch.cat(vectors).numpy(), torch.cat(pooled).flatten(1).numpy()

    def _posed(self, network: Network, inputs: Tensor) -> Tensor:
        """Return z_img averaged over the eight poses of a tile: tissue has no up (ours)."""
        poses = [network.image(turned(inputs, turns, flip))[0] for turns in range(4) for flip in (False, True)]
        return torch.stack(poses).mean(0)

    def predict(
        self,
        section: Section,
        genes: Sequence[str] | None = None,
        *,
        head: str | None = None,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Prediction:
        """Predict expression of every spot from the image (see :class:`Encoder`); counts are never read."""
        if self.check_head(head) != "zero-shot":
            return super().predict(section, genes, head=head, batch_size=batch_size, progress=progress)
        wanted = list(genes) if genes is not None else self._genes
        return self._zero_shot(self.image_vectors(section, batch_size, progress), wanted)

    def _zero_shot(self, z: Floats, genes: Sequence[str]) -> Prediction:
        """Return soft template matching over the grid of values (specification, section 4: our reading)."""
        odd = [gene for gene in genes if not gene.strip()]
        if odd or not genes:
            raise GeneError("no gene to predict", todo="name at least one gene symbol")
        images = torch.from_numpy(z).to(self.device)
        grid = torch.linspace(0, self.config.text.value_max, self.config.objective.grid, device=self.device)
        values = np.empty((len(z), len(genes)), dtype=np.float32)
        spread = np.empty_like(values)
        with torch.inference_mode():
            for start in range(0, len(genes), 256):
                some = genes[start : start + 256]
                vectors = self.gene_vectors(some)
                for first in range(0, len(z), 256):
                    scores = self.network.value_scores(images[first : first + 256], vectors, grid)
                    share = scores.softmax(-1)
                    mean = share @ grid
                    sd = (share @ grid**2 - mean**2).clamp_min(0).sqrt()
                    box = np.s_[first : first + 256, start : start + len(some)]
                    values[box], spread[box] = mean.cpu().numpy(), sd.cpu().numpy()
        scale, offset = self._calibrated(genes)
        return Prediction(values * scale + offset, tuple(genes), "zero-shot", spread * scale)

    def gene_vectors(self, genes: Sequence[str]) -> Tensor:
        """Return vectors (g, width) of gene symbols; symbols never seen in training lack the learned residual."""
        known = {gene: i for i, gene in enumerate(self._genes)}
        pieces = encode(self._tokenizer, genes).to(self.device)
        text = self.network.text
        vectors = text.gene_vectors(pieces, None)
        seen = [i for i, gene in enumerate(genes) if gene in known]
        if seen:
            index = torch.tensor([known[genes[i]] for i in seen], device=self.device)
            vectors = vectors.index_add(0, torch.tensor(seen, device=self.device), text.residual(index))
        return vectors

    def _calibrated(self, genes: Sequence[str]) -> tuple[Floats, Floats]:
        known = {gene: i for i, gene in enumerate(self._genes)}
        table = self._calibration.float().numpy()
        rows = np.array([table[known[g]] if g in known else (1.0, 0.0) for g in genes], dtype=np.float32)
        return rows[:, 0], rows[:, 1]

    def train(
        self, sections: Sequence[Section], *, out: Path, resume: bool = False, progress: bool = True
    ) -> Mapping[str, float]:
        """Train both towers, calibrate zero-shot and fit the ridge head, all on the measured spots of ``sections``."""
        from stzoo.core.train import fit
        from stzoo.plugins.comtip.training import TARGET, TrainingTask, gather, training_genes

        self._genes = training_genes(sections, self.config.train.min_detected, self.config.train.max_genes)
        self._tokenizer = train_tokenizer(self._genes, self.config.text.pieces)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Network(self.config, len(self._genes), self._tokenizer.get_vocab_size())
        data = gather(sections, self._genes, self.config, self.seed)
        task = TrainingTask(network, data, encode(self._tokenizer, self._genes), self.config)
        train = self.config.train
        run = {"config": configs.dump(self.config), "sections": [s.name for s in sections]}
        losses = fit(task, out=out, steps=train.steps, seed=self.seed, config=run, resume=resume, progress=progress)
        self._network = task.average.requires_grad_(False).eval()
        _halve(self._network)
        self._calibration = torch.tensor([[1.0, 0.0]]).repeat(len(self._genes), 1)
        vectors, truth = [], []
        for section in sections:
            usable = section.measured & (np.nan_to_num(section.depth) > 0)
            vectors.append(self.image_vectors(section)[usable])
            truth.append(section.expression(self._genes, target=TARGET)[usable])
        predicted = self._zero_shot(np.concatenate(vectors), self._genes).values
        self._calibration = _calibration(predicted, np.concatenate(truth))
        self.fit(sections, self._genes, head="ridge")
        return losses

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, half precision (training ended by rounding to it, so nothing is lost)."""
        own = {f"network.{name}": tensor.half() for name, tensor in self.network.state_dict().items()}
        return {**own, _CALIBRATION: self._calibration, **head_tensors(self.fitted_heads)}

    def description(self) -> dict[str, Any]:
        """Return vocabulary, scale and heads."""
        return {
            "genes": self._genes,
            "expression": "log1p of counts per 10,000",
            "heads": head_descriptions(self.fitted_heads),
        }

    def assets(self) -> dict[str, bytes]:
        """Return the tokenizer of gene symbols."""
        return {_TOKENIZER: self._tokenizer.to_str().encode("utf-8")}

    def restore(self, state: Mapping[str, Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]) -> None:
        """Take over saved weights, strictly (see :class:`Model`)."""
        genes = description.get("genes")
        if not (isinstance(genes, list) and genes and all(isinstance(gene, str) for gene in genes)):
            raise WeightsError("the repository has no gene vocabulary", todo="pull the weights again")
        if _TOKENIZER not in assets:
            raise WeightsError(f"the repository has no {_TOKENIZER}", todo="pull the weights again")
        tokenizer = load_tokenizer(assets[_TOKENIZER])
        own = take_heads(self, state, description)
        calibration = own.pop(_CALIBRATION, None)
        if calibration is None or tuple(calibration.shape) != (len(genes), 2):
            raise WeightsError(f"tensor '{_CALIBRATION}' is missing or not ({len(genes)}, 2)")
        network = Network(self.config, len(genes), tokenizer.get_vocab_size())
        stray = [key for key in own if not key.startswith("network.")]
        if stray:
            raise WeightsError(f"tensor '{stray[0]}' is not known to the model{nearest(stray[0], own)}")
        restore_module(network, {key.removeprefix("network."): value for key, value in own.items()})
        self._network = network.requires_grad_(False).eval()
        self._genes, self._tokenizer, self._calibration = list(genes), tokenizer, calibration


def _halve(network: Network) -> None:
    """Round every weight to half precision, so that what is used is what is saved."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())


def _calibration(predicted: Floats, truth: Floats) -> Tensor:
    """Return scale and offset (g, 2) of each gene by least squares on training spots; the scale is not negative."""
    x, y = torch.from_numpy(predicted).double(), torch.from_numpy(truth).double()
    dx = x - x.mean(0)
    scale = ((dx * (y - y.mean(0))).sum(0) / (dx**2).sum(0).clamp_min(1e-9)).clamp(0.0, 5.0)
    return torch.stack([scale, y.mean(0) - scale * x.mean(0)], dim=1).float()
