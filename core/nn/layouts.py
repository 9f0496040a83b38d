"""How CLIP, ViT and DINO checkpoints name their tensors, as regular expressions beside our names.

A name "" plays no part; one that ends in ``.T`` is stored the other way round, in ``.0`` with axes of 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from stzoo.core.errors import WeightsError
from torch import Tensor

State = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]


def _clip_blocks(theirs: str, ours: str) -> Rules:
    """Return the rules of open_clip's blocks."""
    old, new = rf"{theirs}transformer\.resblocks\.(\d+)\.", rf"{ours}.blocks.\1."
    return (
        (old + r"ln_([12])\.(weight|bias)", new + r"norm\2.\3"),
        (old + r"attn\.in_proj_(weight|bias)", new + r"attention.qkv.\2"),
        (old + r"attn\.out_proj\.(weight|bias)", new + r"attention.proj.\2"),
        (old + r"mlp\.c_fc\.(weight|bias)", new + r"mlp.fc1.\2"),
        (old + r"mlp\.c_proj\.(weight|bias)", new + r"mlp.fc2.\2"),
    )


_LAYER = r"(vision|text)_model\.encoder\.layers\.(\d+)\."
_VIT_LAYER = r"(?:vit\.)?encoder\.layer\.(\d+)\."
CLIP_MARKS = {
    "transformers": "vision_model.embeddings.class_embedding",
    "open_clip": "visual.class_embedding",
}
CLIP_RULES: dict[str, Rules] = {
    "transformers": (
        (r"vision_model\.embeddings\.class_embedding", "vision.class_embedding"),
        (r"vision_model\.embeddings\.patch_embedding\.weight", "vision.patch_embedding.weight"),
        (r"(vision|text)_model\.embeddings\.position_embedding\.weight", r"\1.position_embedding"),
        (r"text_model\.embeddings\.token_embedding\.weight", "text.token_embedding.weight"),
        (r"vision_model\.pre_layrnorm\.(weight|bias)", r"vision.pre_layernorm.\1"),
        (r"vision_model\.post_layernorm\.(weight|bias)", r"vision.layernorm.\1"),
        (r"text_model\.final_layer_norm\.(weight|bias)", r"text.layernorm.\1"),
        (_LAYER + r"layer_norm([12])\.(weight|bias)", r"\1.blocks.\2.norm\3.\4"),
        (_LAYER + r"self_attn\.([qkv])_proj\.(weight|bias)", r"\1.blocks.\2.attention.\3.\4"),
        (_LAYER + r"self_attn\.out_proj\.(weight|bias)", r"\1.blocks.\2.attention.proj.\3"),
        (_LAYER + r"mlp\.(fc[12])\.(weight|bias)", r"\1.blocks.\2.mlp.\3.\4"),
        (r"(visual_projection|text_projection)\.weight", r"\1"),
        (r"logit_scale", "logit_scale"),
        (r"(vision|text)_model\.embeddings\.position_ids", ""),
    ),
    "open_clip": (
        (r"visual\.class_embedding", "vision.class_embedding"),
        (r"visual\.conv1\.weight", "vision.patch_embedding.weight"),
        (r"visual\.positional_embedding", "vision.position_embedding"),
        (r"visual\.ln_pre\.(weight|bias)", r"vision.pre_layernorm.\1"),
        (r"visual\.ln_post\.(weight|bias)", r"vision.layernorm.\1"),
        (r"visual\.proj", "visual_projection.T"),
        *_clip_blocks(r"visual\.", "vision"),
        (r"token_embedding\.weight", "text.token_embedding.weight"),
        (r"positional_embedding", "text.position_embedding"),
        (r"ln_final\.(weight|bias)", r"text.layernorm.\1"),
        (r"text_projection", "text_projection.T"),
        *_clip_blocks("", "text"),
        (r"logit_scale", "logit_scale"),
        (r"attn_mask|input_resolution|context_length|vocab_size", ""),
    ),
}
VIT_MARKS = {"timm": r"(^| )patch_embed\.proj\.weight", "transformers": r"(^| )(vit\.)?embeddings\.cls_token"}
VIT_RULES: dict[str, Rules] = {
    "timm": (
        (r"cls_token", "class_embedding.0"),
        (r"pos_embed", "position_embedding.0"),
        (r"patch_embed\.proj\.(weight|bias)", r"patch_embedding.\1"),
        (r"norm_pre\.(weight|bias)", r"pre_layernorm.\1"),
        (r"norm\.(weight|bias)", r"layernorm.\1"),
        (r"blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)", r"blocks.\1.attention.\2.\3"),
        (r"(blocks\.\d+\.(?:norm[12]|mlp\.fc[12])\.(?:weight|bias))", r"\1"),
        (r"head\..*", ""),
    ),
    "transformers": (
        (r"(?:vit\.)?embeddings\.cls_token", "class_embedding.0"),
        (r"(?:vit\.)?embeddings\.position_embeddings", "position_embedding.0"),
        (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.(weight|bias)", r"patch_embedding.\1"),
        (r"(?:vit\.)?layernorm\.(weight|bias)", r"layernorm.\1"),
        (_VIT_LAYER + r"layernorm_before\.(weight|bias)", r"blocks.\1.norm1.\2"),
        (_VIT_LAYER + r"layernorm_after\.(weight|bias)", r"blocks.\1.norm2.\2"),
        (_VIT_LAYER + r"attention\.attention\.([qkv])(?:uery|ey|alue)\.(\w+)", r"blocks.\1.attention.\2.\3"),
        (_VIT_LAYER + r"attention\.output\.dense\.(weight|bias)", r"blocks.\1.attention.proj.\2"),
        (_VIT_LAYER + r"intermediate\.dense\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
        (_VIT_LAYER + r"output\.dense\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
        (r"(?:vit\.)?(?:pooler\..*|embeddings\.mask_token)|classifier\..*", ""),
    ),
}


def translate(state: State, rules: Rules, layout: str) -> dict[str, Tensor]:
    """Return the tensors under our names, queries, keys and values as one tensor."""
    ours: dict[str, Tensor] = {}
    strange = []
    for key, tensor in state.items():
        match = next((m for pattern, name in rules if (m := _rename(pattern, name, key)) is not None), None)
        if match is None:
            strange.append(key)
        elif match:
            ours[match.removesuffix(".T").removesuffix(".0")] = _reshape(match, tensor)
    if strange:
        raise WeightsError(
            f"{len(strange)} tensors of the checkpoint are none of the {layout} layout, e.g. '{min(strange)}'",
            todo="use a checkpoint of a plain ViT or CLIP; variants of the architecture can not be loaded",
        )
    for key in [key for key in ours if re.search(r"\.attention\.q\.\w+$", key)]:
        names = [re.sub(r"\.q\.(\w+)$", rf".{part}.\1", key) for part in "qkv"]
        three = [of_shape(ours, name, tuple(ours[key].shape)) for name in names]
        ours[key.replace(".attention.q.", ".attention.qkv.")] = torch.cat(three)
        for name in names:
            del ours[name]
    return ours


def _reshape(name: str, tensor: Tensor) -> Tensor:
    if name.endswith(".T"):
        return tensor.T
    return tensor.squeeze() if name.endswith(".0") else tensor


def _rename(pattern: str, name: str, key: str) -> str | None:
    match = re.fullmatch(pattern, key)
    return None if match is None else match.expand(name)


def of_shape(state: State, name: str, shape: tuple[int | None, ...]) -> Tensor:
    """Return a tensor, None in ``shape`` being any size."""
    tensor = state.get(name)
    if tensor is None:
        raise WeightsError(f"the checkpoint has nothing for '{name}'", todo="it is not whole: get it again")
    fits = tensor.ndim == len(shape) and all(b in (None, a) for a, b in zip(tensor.shape, shape, strict=True))
    if not fits:
        wanted = tuple("any" if n is None else n for n in shape)
        raise WeightsError(f"'{name}' of the checkpoint is {tuple(tensor.shape)}, expected {wanted}")
    return tensor
