"""Options of CoMTIP. What the paper does not say is labelled "our reading" or "ours"."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Stem(Enum):
    """How a patch becomes a token."""

    linear = "linear"
    """A linear map of the pixels, as in the paper's ViT."""
    texture = "texture"
    """Ours: a linear map of stain and texture statistics of the patch, standardised over the section."""


@dataclass
class VisionConfig:
    """The image tower: a ViT over the patches of a tile.

    Parameters
    ----------
    tile_px, mpp
        A spot's tile: pixels a side, and µm/px it is resampled to (the paper says neither; ours covers 224 µm).
    patch_px, width, depth, heads
        Shape of the ViT.
    stem
        How a patch becomes a token.
    skip
        Ours: add a linear map of the mean and spread of the patch statistics to z_img.
    """

    tile_px: int = 224
    mpp: float = 1.0
    patch_px: int = 32
    width: int = 192
    depth: int = 6
    heads: int = 3
    stem: Stem = Stem.texture
    skip: bool = True


@dataclass
class TextConfig:
    """The text tower: (gene, value) pairs, pooled over genes by attention (ours; specification, section 7).

    Parameters
    ----------
    width, depth, heads
        Shape of the transformer that reads the pieces of a gene symbol.
    pieces
        Size of the vocabulary of symbol pieces (byte-pair encoding, learned on the training genes).
    knots, value_max
        Values are soft bins: piecewise linear between ``knots`` points on [0, value_max] of log1p expression.
    """

    width: int = 128
    depth: int = 2
    heads: int = 4
    pieces: int = 600
    knots: int = 32
    value_max: float = 8.0


@dataclass
class ObjectiveConfig:
    """Weights of the losses; 0 switches a part off.

    Parameters
    ----------
    contrast
        Symmetric InfoNCE between images and profiles (paper, section 2.4; formula: our reading).
    soft_targets
        Ours: temperature of targets from expression similarity (neighbours are near duplicates); 0 = one-hot.
    mfm, mask
        Masked feature modelling, both MSE terms (paper: weight 1), and the masked share (paper: 0.5).
    ranking, grid
        Ours: cross-entropy of a gene's true value among ``grid`` values, which makes zero-shot an objective.
    """

    contrast: float = 1.0
    soft_targets: float = 0.1
    mfm: float = 1.0
    mask: float = 0.5
    ranking: float = 1.0
    grid: int = 16


@dataclass
class TrainConfig:
    """How to train.

    Parameters
    ----------
    steps, batch, warmup
        Optimiser steps, spots a step, steps of linear warm-up (then cosine decay, as in the paper).
    learning_rate, weight_decay
        AdamW (paper: weight decay 0.05; its rate of 1e-6 is for pretrained towers).
    genes, ranked_genes
        Genes a step in a profile at most, and genes whose values are ranked.
    min_detected, max_genes
        Genes of the vocabulary are detected in at least this share of the training spots; of those, the ones of
        highest mean.
    views, shift_um
        Tiles cached for each spot, and by how much they are shifted at random.
    jitter
        Spread of random scale and offset of each statistic (stain), for each sample.
    average
        Decay of the moving average of the weights that is kept.
    """

    steps: int = 600
    batch: int = 96
    warmup: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    genes: int = 128
    ranked_genes: int = 512
    min_detected: float = 0.1
    max_genes: int = 1000
    views: int = 3
    shift_um: float = 20.0
    jitter: float = 0.2
    average: float = 0.99


@dataclass
class CoMTIPConfig:
    """Options of :class:`~stzoo.plugins.comtip.model.CoMTIP`.

    Parameters
    ----------
    embedding_dim
        Width of the shared space.
    statistics
        Ours: :meth:`embed` also carries the mean and spread of the patch statistics beside z_img (texture stem only).
    context_um
        Ours: an embedding is the spot's own vector beside Gaussian means over its neighbours' of these widths (µm);
        empty for the own vector only.
    """

    embedding_dim: int = 128
    statistics: bool = True
    context_um: list[float] = field(default_factory=lambda: [200.0, 400.0])
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
