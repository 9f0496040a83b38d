"""Networks that several methods share: ViT, CLIP text, attention, adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stzoo.core.runtime.public import offer

if TYPE_CHECKING:
    from stzoo.core.nn.adapters import adapt as adapt
    from stzoo.core.nn.adapters import merge as merge
    from stzoo.core.nn.backends import attention_backend as attention_backend
    from stzoo.core.nn.backends import use_attention as use_attention
    from stzoo.core.nn.clip_text import ClipText as ClipText
    from stzoo.core.nn.clip_text import ClipTextConfig as ClipTextConfig
    from stzoo.core.nn.foreign import read_checkpoint as read_checkpoint
    from stzoo.core.nn.foreign import read_hints as read_hints
    from stzoo.core.nn.int8 import quantise as quantise
    from stzoo.core.nn.pretrained import clip_towers as clip_towers
    from stzoo.core.nn.pretrained import vit_tower as vit_tower
    from stzoo.core.nn.scaled_dot_product import attention as attention
    from stzoo.core.nn.transformer import MLP as MLP
    from stzoo.core.nn.transformer import Block as Block
    from stzoo.core.nn.vit import ViT as ViT
    from stzoo.core.nn.vit import ViTConfig as ViTConfig

_HOMES = {
    "Block": "transformer",
    "ClipText": "clip_text",
    "ClipTextConfig": "clip_text",
    "MLP": "transformer",
    "ViT": "vit",
    "ViTConfig": "vit",
    "adapt": "adapters",
    "attention": "scaled_dot_product",
    "attention_backend": "backends",
    "clip_towers": "pretrained",
    "merge": "adapters",
    "quantise": "int8",
    "read_checkpoint": "foreign",
    "read_hints": "foreign",
    "use_attention": "backends",
    "vit_tower": "pretrained",
}

__all__ = sorted(_HOMES)
__getattr__ = offer(__name__, _HOMES)
