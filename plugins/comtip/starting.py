"""Starting weights: towers of CLIP, PLIP, DINO or a plain ViT, in the names of our networks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

from stzoo.core.errors import ConfigError, WeightsError
from stzoo.core.nn.pretrained import clip_towers, read_checkpoint, read_hints, vit_tower
from stzoo.core.nn.vit import ViTConfig
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem, Text
from stzoo.plugins.comtip.network import Network
from stzoo.plugins.comtip.sentence_tokens import SentenceTokenizer, clip_tokenizer
from stzoo.plugins.comtip.vision import vit_shape
from torch import Tensor


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Parameters
    ----------
    state
        Tensors by the names of :class:`~stzoo.plugins.comtip.network.Network`; what is not there starts at random.
    tokenizer
        The checkpoint's, where its text tower is taken over.
    source, sha256
        Where it came from, and the digest of its tensors.
    """

    state: dict[str, Tensor]
    tokenizer: SentenceTokenizer | None
    source: str
    sha256: str

    def fill(self, network: Network) -> None:
        """Copy the tensors into a network; every one must have its place there.

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


def read_start(folder: Path, config: CoMTIPConfig, source: str) -> Start:
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
        _same_shape(parts.vision_config, config)
        state |= {f"image.vit.{name}": tensor for name, tensor in parts.vision.items()}
        state["image.projection.weight"] = parts.visual_projection
        state["logit_scale"] = parts.logit_scale
        if config.text.kind is Text.sentences:
            state |= {f"text.text.{name}": tensor for name, tensor in parts.text.items()}
            state["text.projection.weight"] = parts.text_projection
            tokenizer = clip_tokenizer(folder if folder.is_dir() else folder.parent)
    else:
        vision, shape = vit_tower(tensors, hints, image_px=config.vision.tile_px)
        _same_shape(shape, config)
        state |= {f"image.vit.{name}": tensor for name, tensor in vision.items()}
    return Start(state, tokenizer, source, digest.hexdigest())


def _same_shape(found: ViTConfig, config: CoMTIPConfig) -> None:
    wanted = vit_shape(config.vision)
    for field in fields(ViTConfig):
        have, want = getattr(found, field.name), getattr(wanted, field.name)
        if have != want and field.name not in ("eps", "dropout"):
            raise ConfigError(
                f"the checkpoint's image tower has {field.name} {have}, the config has {want}",
                todo="set vision.* to the checkpoint's shape (vision.clip=true for CLIP and PLIP)",
            )
