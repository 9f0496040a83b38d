"""Checkpoints of CLIP, PLIP, DINO and plain ViTs to our modules: safetensors only, and strictly.

Every tensor of a checkpoint becomes one of ours or is known to play no part (a classifier's head, numbered positions);
nothing of ours is left random; shapes are checked against the module that they are for. Layouts are recognised by their
keys: CLIP as transformers and open_clip write it, ViT as timm and transformers write it (DINO's are the latter two).

>>> parts = clip_towers(read_checkpoint(folder), read_hints(folder))    # doctest: +SKIP
>>> restore_module(ViT(parts.vision_config), parts.vision)              # doctest: +SKIP
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from stzoo.core.errors import WeightsError
from stzoo.core.nn.clip_text import ClipText, ClipTextConfig
from stzoo.core.nn.foreign import Hints, TowerHints, read_checkpoint, read_hints
from stzoo.core.nn.layouts import CLIP_MARKS, CLIP_RULES, VIT_MARKS, VIT_RULES, State, of_shape, translate
from stzoo.core.nn.vit import ViT, ViTConfig
from torch import Tensor

__all__ = ["ClipParts", "Hints", "TowerHints", "clip_towers", "read_checkpoint", "read_hints", "vit_tower"]


@dataclass(frozen=True)
class ClipParts:
    """A CLIP checkpoint in our names.

    Parameters
    ----------
    vision_config, vision
        Shape and state of a :class:`~stzoo.core.nn.vit.ViT`; its ``layernorm`` is CLIP's post layer norm.
    text_config, text
        Shape and state of a :class:`~stzoo.core.nn.clip_text.ClipText`.
    visual_projection, text_projection
        Weights (out, width) of the linear maps into the shared space.
    logit_scale
        Logarithm of the factor of cosine similarities, ().
    """

    vision_config: ViTConfig
    vision: dict[str, Tensor]
    text_config: ClipTextConfig
    text: dict[str, Tensor]
    visual_projection: Tensor
    text_projection: Tensor
    logit_scale: Tensor


def clip_towers(
    state: State, hints: Hints | None = None, *, image_px: int | None = None, interpolate: bool = False
) -> ClipParts:
    """Take a CLIP checkpoint apart (layouts of transformers and of open_clip).

    Parameters
    ----------
    state
        Its tensors, from :func:`read_checkpoint`.
    hints
        What they do not say, from :func:`read_hints`.
    image_px
        Side of the images that the image tower is for; None: what the checkpoint was trained on.
    interpolate
        Stretch the positions of patches (bicubic) when that is another grid, instead of an error.

    Raises
    ------
    WeightsError
        Keys of no layout that is known, keys missing or left over, shapes that do not fit each other, or another grid.
    """
    hints = hints or Hints()
    layout = next((name for name, mark in CLIP_MARKS.items() if mark in state), None)
    if layout is None:
        raise _unknown(state, "CLIP")
    if layout == "open_clip" and None in (hints.vision.quick_gelu, hints.text.quick_gelu):
        raise _no_activation()
    ours = translate(state, CLIP_RULES[layout], layout)
    config, vision = _vision(_under(ours, "vision."), hints.vision, image_px, interpolate, clip=True, eps=1e-5)
    text = _under(ours, "text.")
    text_config = _text_config(text, hints.text)
    _check(text, _shapes(ClipText, text_config))
    return ClipParts(
        vision_config=config,
        vision=vision,
        text_config=text_config,
        text=text,
        visual_projection=of_shape(ours, "visual_projection", (None, config.width)),
        text_projection=of_shape(ours, "text_projection", (None, text_config.width)),
        logit_scale=of_shape(ours, "logit_scale", ()),
    )


def vit_tower(
    state: State, hints: Hints | None = None, *, image_px: int | None = None
) -> tuple[dict[str, Tensor], ViTConfig]:
    """Return state and shape of a :class:`~stzoo.core.nn.vit.ViT` from a ViT or DINO checkpoint (timm, transformers).

    Parameters and errors are those of :func:`clip_towers`; another grid is an error.
    """
    layout = next((name for name, mark in VIT_MARKS.items() if re.search(mark, " ".join(state))), None)
    if layout is None:
        raise _unknown(state, "ViT")
    ours = translate(state, VIT_RULES[layout], layout)
    tower = (hints or Hints()).vision
    clip = "pre_layernorm.weight" in ours  # timm's image towers of CLIP
    if clip and tower.quick_gelu is None:
        raise _no_activation()
    eps = 1e-12 if layout == "transformers" else 1e-6
    config, vision = _vision(ours, tower, image_px, False, clip=clip, eps=eps)
    return vision, config


def _vision(
    state: State, hints: TowerHints, image_px: int | None, interpolate: bool, *, clip: bool, eps: float
) -> tuple[ViTConfig, dict[str, Tensor]]:
    """Return shape and state of a ViT, positions on the wanted grid."""
    state = dict(state)
    width, _, patch_px, _ = of_shape(state, "patch_embedding.weight", (None, 3, None, None)).shape
    positions = of_shape(state, "position_embedding", (None, width))
    grid = math.isqrt(len(positions) - 1)
    if grid * grid != len(positions) - 1:
        raise WeightsError(f"{len(positions)} positions are no square grid of patches and a class token")
    wanted = grid if image_px is None else image_px // patch_px
    if wanted != grid:
        if not interpolate:
            raise WeightsError(
                f"the checkpoint is for images of {grid * patch_px} px ({grid} x {grid} patches), not {image_px} px",
                todo=f"use tiles of {grid * patch_px} px, or ask for its positions to be interpolated",
            )
        state["position_embedding"] = _resize_grid(positions, grid, wanted)
    config = ViTConfig(
        image_px=image_px or grid * patch_px,
        patch_px=patch_px,
        width=width,
        depth=_depth(state),
        heads=hints.heads or _heads(width),
        mlp_ratio=of_shape(state, "blocks.0.mlp.fc1.weight", (None, width)).shape[0] / width,
        pre_layernorm=clip,
        quick_gelu=clip if hints.quick_gelu is None else hints.quick_gelu,
        patch_bias=not clip,
        eps=hints.eps or eps,
    )
    _check(state, _shapes(ViT, config))
    return config, state


def _text_config(state: State, hints: TowerHints) -> ClipTextConfig:
    vocabulary, width = of_shape(state, "token_embedding.weight", (None, None)).shape
    return ClipTextConfig(
        vocabulary=vocabulary,
        positions=len(of_shape(state, "position_embedding", (None, width))),
        width=width,
        depth=_depth(state),
        heads=hints.heads or _heads(width),
        mlp_ratio=of_shape(state, "blocks.0.mlp.fc1.weight", (None, width)).shape[0] / width,
        quick_gelu=hints.quick_gelu is not False,
        eps=hints.eps or 1e-5,
    )


def _depth(state: State) -> int:
    return len({key.split(".")[1] for key in state if key.startswith("blocks.")})


def _heads(width: int) -> int:
    if width % 64:
        raise WeightsError(f"the number of heads of a tower of width {width} is not known", todo="say it in the hints")
    return width // 64


def _resize_grid(positions: Tensor, grid: int, wanted: int) -> Tensor:
    """Return positions (1 + wanted ** 2, width) of another grid; the class token's stays."""
    patches = positions[1:].float().T.reshape(1, -1, grid, grid)
    patches = F.interpolate(patches, size=(wanted, wanted), mode="bicubic", antialias=True)
    return torch.cat([positions[:1].float(), patches[0].flatten(1).T])


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _shapes(kind: type[ViT] | type[ClipText], config: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in kind(config).state_dict().items()}


def _check(state: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a tower that is not whole, or whose tensors do not fit each other."""
    for name, shape in shapes.items():
        of_shape(state, name, shape)
    if strange := set(state) - set(shapes):
        raise WeightsError(f"the checkpoint has '{min(strange)}', which the tower has not")


def _no_activation() -> WeightsError:
    return WeightsError(
        "the tensors do not say which activation they were trained with",
        todo="keep open_clip_config.json beside them, or say quick_gelu (OpenAI's: True, LAION's: mostly False)",
    )


def _unknown(state: State, kind: str) -> WeightsError:
    return WeightsError(
        f"keys of no {kind} layout that is known, e.g. '{min(state, default='(none)')}'",
        todo="CLIP is read as transformers or open_clip write it, ViT and DINO as timm or transformers write them",
    )
