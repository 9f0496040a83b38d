"""Published image encoders (CLIP, PLIP, DINO, plain ViTs), frozen, under any head. Import-light: records only."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ModelSpec, hookimpl

STZOO_API = 1


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the encoder; weights are made of published checkpoints."""
    return [
        ModelSpec(
            name="vit",
            role="encoder",
            target="stzoo.plugins.vit.model:ViTEncoder",
            config="stzoo.plugins.vit.model:ViTEncoderConfig",
            summary="a published image encoder (CLIP, PLIP, DINO or a plain ViT), frozen, with any head",
            license="Apache-2.0",
            citation=(
                "Dosovitskiy et al. 2021 (ViT); Radford et al. 2021 (CLIP); Caron et al. 2021 (DINO); "
                "Huang et al. 2023 (PLIP)"
            ),
            adapts_checkpoints=True,
        )
    ]
