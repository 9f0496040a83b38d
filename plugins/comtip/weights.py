"""What a trained CoMTIP is: networks, genes, calibration; how it is saved, restored, and started from a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from stzoo import ConfigError, WeightsError, restore_module
from stzoo.core.errors import nearest
from stzoo.core.nn import ViTConfig, clip_towers, read_checkpoint, read_hints, vit_tower
from stzoo.core.weights.repository import empty
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem, Text
from stzoo.plugins.comtip.image_tower import make_vit_config
from stzoo.plugins.comtip.network import CoMTIPNetwork
from stzoo.plugins.comtip.sentences import SentenceTokenizer, parse_tokenizer, wrap_clip_tokenizer
from stzoo.plugins.comtip.vocabulary import Vocabulary, load_packaged_descriptions
from stzoo.plugins.comtip.zero_shot import ZeroShot, ZeroShotCalibration
from torch import Tensor

_TOKENIZER = "tokenizer.json"
_CALIBRATION = "zero_shot.calibration"
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of CLIP's published tokenizer


@dataclass
class Weights:
    """The trained state of CoMTIP.

    Parameters
    ----------
    network, vocabulary
        Both towers, and the gene vocabulary of the training.
    calibration
        Of zero-shot prediction, one row for each vocabulary gene.
    started_from
        The checkpoint that training started from (source, sha256), or empty.
    validated
        How validation selected the weights (:attr:`stzoo.core.model.Model.validated`), or empty.
    """

    network: CoMTIPNetwork
    vocabulary: Vocabulary
    calibration: ZeroShotCalibration
    started_from: Mapping[str, str] = field(default_factory=dict)
    validated: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def initialise(cls, config: CoMTIPConfig, vocabulary: Vocabulary) -> Self:
        """Return randomly initialised, uncalibrated weights for a vocabulary."""
        return cls(make_network(config, vocabulary), vocabulary, ZeroShotCalibration.none(len(vocabulary.genes)))

    def zero_shot(self, config: CoMTIPConfig) -> ZeroShot:
        """Return zero-shot prediction by these weights, as they stand calibrated."""
        return ZeroShot(self.network, self.vocabulary, self.calibration, config)

    def round_to_half(self) -> None:
        """Freeze the networks and round them to half precision, so that the weights in use are those that are saved."""
        self.network.requires_grad_(False).eval()
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.copy_(parameter.half().float())

    def state(self) -> dict[str, Tensor]:
        """Return the tensors; network weights in half precision."""
        own = {f"network.{name}": tensor.half() for name, tensor in self.network.state_dict().items()}
        return {**own, _CALIBRATION: self.calibration.table}

    def description(self) -> dict[str, Any]:
        """Return gene vocabulary, expression scale and origin as JSON values."""
        return {
            "genes": list(self.vocabulary.genes),
            "expression": "log1p of counts per 10,000",
            **({"gene_text": load_packaged_descriptions().sha256} if self.vocabulary.n_described else {}),
            **({"started_from": dict(self.started_from)} if self.started_from else {}),
            **({"validated": dict(self.validated)} if self.validated else {}),
        }

    def assets(self) -> dict[str, bytes]:
        """Return the tokenizer of gene symbols."""
        return {_TOKENIZER: self.vocabulary.dumps()}

    @classmethod
    def restore(
        cls, config: CoMTIPConfig, vocabulary: Vocabulary, state: Mapping[str, Tensor], description: Mapping[str, Any]
    ) -> Self:
        """Restore saved weights, strictly.

        Raises
        ------
        WeightsError
            A tensor is missing, left over, or of another shape.
        """
        own, genes = dict(state), len(vocabulary.genes)
        table = own.pop(_CALIBRATION, None)
        if table is None or tuple(table.shape) != (genes, 4):
            raise WeightsError(f"tensor '{_CALIBRATION}' is missing or not ({genes}, 4)")
        with empty():
            network = make_network(config, vocabulary)
        stray = [key for key in own if not key.startswith("network.")]
        if stray:
            raise WeightsError(f"tensor '{stray[0]}' is not known to the model{nearest(stray[0], own)}")
        restore_module(network, {key.removeprefix("network."): value for key, value in own.items()})
        network.requires_grad_(False).eval()
        started_from, validated = (_as_mapping(description.get(name)) for name in ("started_from", "validated"))
        return cls(network, vocabulary, ZeroShotCalibration(table), started_from, validated)


def make_network(config: CoMTIPConfig, vocabulary: Vocabulary) -> CoMTIPNetwork:
    """Return randomly initialised networks for a vocabulary."""
    v = vocabulary
    return CoMTIPNetwork(config, len(v.genes), v.n_tokens, v.n_described, v.suffix)


def restore_vocabulary(config: CoMTIPConfig, description: Mapping[str, Any], assets: Mapping[str, bytes]) -> Vocabulary:
    """Restore the saved gene vocabulary with its tokenizer.

    Raises
    ------
    WeightsError
        It is missing, or was trained with another table of gene descriptions than this stzoo has.
    """
    genes = description.get("genes")
    if not (isinstance(genes, list) and genes and all(isinstance(gene, str) for gene in genes)):
        raise WeightsError("the repository has no gene vocabulary", todo="pull the weights again")
    if _TOKENIZER not in assets:
        raise WeightsError(f"the repository has no {_TOKENIZER}", todo="pull the weights again")
    vocabulary = Vocabulary.restore(genes, config.text, assets[_TOKENIZER])
    if vocabulary.n_described and description.get("gene_text") != load_packaged_descriptions().sha256:
        raise WeightsError(
            "these weights were trained with another table of gene descriptions than this stzoo has",
            todo="install the version of stzoo that they were made with, or newer weights",
        )
    return vocabulary


def _as_mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class StartingWeights:
    """Initial weights from a published checkpoint.

    Parameters
    ----------
    state
        Tensors by the names of :class:`~stzoo.plugins.comtip.network.CoMTIPNetwork`; what is missing starts at random.
    tokenizer
        The checkpoint's, where its text tower is taken over.
    source, sha256
        Where it came from, and the digest of its tensors.
    """

    state: dict[str, Tensor]
    tokenizer: SentenceTokenizer | None
    source: str
    sha256: str

    def fill(self, network: CoMTIPNetwork) -> None:
        """Copy the tensors into a network, which must have each of them.

        Raises
        ------
        WeightsError
            A tensor that the network has not, or of another shape.
        """
        own = network.state_dict()
        for name, tensor in self.state.items():
            if name not in own or own[name].shape != tensor.shape:
                shape = tuple(own[name].shape) if name in own else "none"
                raise WeightsError(
                    f"'{name}' is {tuple(tensor.shape)} in the checkpoint and {shape} in this model",
                    where=self.source,
                    todo="choose a config of the checkpoint's size (comtip-base for CLIP and PLIP ViT-B/32)",
                )
        network.load_state_dict({**own, **{name: tensor.float() for name, tensor in self.state.items()}})


def read_start(folder: Path, config: CoMTIPConfig, source: str) -> StartingWeights:
    """Read a checkpoint: both towers of a CLIP, or the image tower of a ViT or DINO.

    Parameters
    ----------
    folder
        A safetensors file, or a folder with one (layouts of transformers, open_clip and timm).
    config
        The model that it has to fit. With ``text.kind = pairs`` only the image tower is taken.

    Raises
    ------
    WeightsError
        No checkpoint, a pickle, keys of no known layout.
    ConfigError
        The config has another shape, or reads patches by their statistics.
    """
    if config.vision.stem is not Stem.linear:
        raise ConfigError("a checkpoint's image tower reads pixels", todo="set vision.stem=linear vision.skip=false")
    tensors, hints = read_checkpoint(folder), read_hints(folder)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    state: dict[str, Tensor] = {}
    tokenizer = None
    if "logit_scale" in tensors:
        parts = clip_towers(tensors, hints, image_px=config.vision.tile_px)
        _check_shape(parts.vision_config, config)
        state |= {f"image.vit.{name}": tensor for name, tensor in parts.vision.items()}
        state["image.projection.weight"] = parts.visual_projection
        state["logit_scale"] = parts.logit_scale
        if config.text.kind is Text.sentences:
            state |= {f"text.text.{name}": tensor for name, tensor in parts.text.items()}
            state["text.projection.weight"] = parts.text_projection
            tokenizer = clip_tokenizer(folder if folder.is_dir() else folder.parent)
    else:
        vision, shape = vit_tower(tensors, hints, image_px=config.vision.tile_px)
        _check_shape(shape, config)
        state |= {f"image.vit.{name}": tensor for name, tensor in vision.items()}
    return StartingWeights(state, tokenizer, source, digest.hexdigest())


def _check_shape(found: ViTConfig, config: CoMTIPConfig) -> None:
    wanted = make_vit_config(config.vision)
    for own in fields(ViTConfig):
        have, want = getattr(found, own.name), getattr(wanted, own.name)
        if have != want and own.name not in ("eps", "dropout"):
            raise ConfigError(
                f"the checkpoint's image tower has {own.name} {have}, the config has {want}",
                todo="set vision.* to the checkpoint's shape (vision.clip=true for CLIP and PLIP)",
            )


def clip_tokenizer(folder: Path) -> SentenceTokenizer:
    """Read CLIP's tokenizer from the folder of a checkpoint: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

    Raises
    ------
    WeightsError
        They are not there, or not CLIP's.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        tokenizer = parse_tokenizer(_read(folder / "tokenizer.json"), folder)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _from_merges(folder)
    else:
        raise WeightsError(
            "the checkpoint has no tokenizer",
            where=folder,
            todo="put tokenizer.json, or vocab.json and merges.txt, beside its tensors",
        )
    return wrap_clip_tokenizer(tokenizer, folder)


def _from_merges(folder: Path) -> Any:
    """Build CLIP's tokenizer from its two tables; the rules around them are those of transformers and open_clip."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    try:
        model = BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            unk_token="<|endoftext|>",
            end_of_word_suffix="</w>",
        )
    except Exception as error:  # all that the package raises for what it can not parse
        raise WeightsError(f"vocab.json and merges.txt can not be read: {error}", where=folder) from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"can not be read: {error.strerror}", where=path) from error
