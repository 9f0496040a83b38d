"""The weights of a model of transformers, in the layouts of open_clip and timm."""

from __future__ import annotations

import torch


def shaken(model):
    """Norms and biases away from 1 and 0, so that they count."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


OPEN_CLIP = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
}


def as_open_clip(state):
    """The same weights as open_clip stores them."""
    out = {}
    for key, tensor in state.items():
        name = key.replace("vision_model.", "visual.").replace("text_model.", "")
        for theirs, ours in OPEN_CLIP.items():
            name = name.replace(theirs, ours)
        if ".q_proj." in name:
            three = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            out[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(three)
        elif "_proj." not in name or "out_proj" in name or "c_proj" in name:
            out[name] = tensor
    out["visual.proj"] = out.pop("visual_projection.weight").T.contiguous()
    out["text_projection"] = out.pop("text_projection.weight").T.contiguous()
    return out


def as_timm(state):
    """The same weights as timm and DINO's authors store them, with a classifier's head."""
    rename = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "encoder.layer": "blocks",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm": "norm",
    }
    width = len(state["layernorm.weight"])
    out = {"head.weight": torch.randn(5, width), "head.bias": torch.randn(5)}
    for key, tensor in state.items():
        name = key
        for theirs, ours in rename.items():
            name = name.replace(theirs, ours)
        if ".query." in name:
            three = [state[key.replace("query", part)] for part in ("query", "key", "value")]
            out[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(three)
        elif "pooler" not in name and "attention.attention" not in name:
            out[name] = tensor
    return out
