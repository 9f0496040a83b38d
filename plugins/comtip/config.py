"""Options of CoMTIP. What the paper leaves open is labelled "our reading"; what we added, "ours"."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from stzoo.core.training import Precision


class Stem(Enum):
    """How an image patch becomes a token."""

    linear = "linear"
    """A linear map of the pixels, as in the paper's ViT."""
    texture = "texture"
    """Ours: a linear map of stain and texture statistics of the patch, standardised over the section."""


class Text(Enum):
    """How (gene, value) pairs are encoded."""

    sentences = "sentences"
    """The paper's: "The expression value of {gene} is {value}.", one sentence a pair, through CLIP's text tower."""
    pairs = "pairs"
    """Ours: a gene is encoded once for all samples, and a small MLP combines it with the value."""


class Values(Enum):
    """How an expression value is embedded."""

    affine = "affine"
    """The paper's: W v + b."""
    bins = "bins"
    """Ours: piecewise linear between learned knots, beside Fourier features."""
    none = "none"
    """No value embedding (an ablation of the paper's)."""


class PairPool(Enum):
    """How the pairs of an expression profile are pooled into one vector."""

    mean = "mean"
    """The paper's."""
    attention = "attention"
    """Ours: attention pooling with a learned query, for any number and order of genes."""


class GeneDescription(Enum):
    """What describes a gene besides its symbol (ours)."""

    none = "none"
    sentences = "sentences"
    """Full name and aliases, embedded by a pretrained sentence encoder (all-MiniLM-L6-v2); a packaged table."""


class MFMLoss(Enum):
    """Distance between generated and teacher features in masked feature modelling."""

    mse = "mse"
    """The paper's."""
    normalised = "normalised"
    """Ours: MSE after each teacher feature is standardised over its width."""
    cosine = "cosine"
    """Ours: 1 - cosine."""


class Generator(Enum):
    """What generates the features of masked patches."""

    attention = "attention"
    """The paper's: one cross-attention layer."""
    block = "block"
    """Ours: cross-attention followed by a transformer block."""


class Paat(Enum):
    """Pair-aware adversarial training: discriminating a profile from its copy with permuted values."""

    none = "none"
    paper = "paper"
    """Our reading of the paper: |gap| of the scores behind a gradient reversal (specification, section 2.3)."""
    critic = "critic"
    """Our other reading: a critic and the encoder widen the gap together."""
    negative = "negative"
    """Ours: the permuted profile as one more negative of InfoNCE, for its own image."""
    pairs = "pairs"
    """Ours: the discriminator scores each single pair instead of the pooled vector."""


class Watch(Enum):
    """Which score on held-out sections selects the weights and stops a run (ours; the paper keeps the last)."""

    zero_shot_pcc = "zero_shot_pcc"
    """Correlation of zero-shot predictions (text branch, from the image), which is what the objective trains."""
    ridge_pcc = "ridge_pcc"
    """Correlation of a ridge head on the frozen embedding, fitted on training spots: the default head."""


@dataclass
class VisionConfig:
    """The image tower: a ViT over the patches of a tile.

    Parameters
    ----------
    tile_px, mpp
        Tile of a spot: side in pixels, and µm/px it is resampled to (the paper gives neither; ours covers 224 µm).
    patch_px, width, depth, heads
        Shape of the ViT.
    stem
        How a patch becomes a token.
    clip
        CLIP's variant of the ViT (layer norm before the first block, QuickGELU, no bias in the patch embedding), as
        its checkpoints require.
    skip
        Ours: add a linear map of the mean and spread of the patch statistics to z_img (texture stem only).
    context_um
        Ours: widths of Gaussian means over the z of neighbouring spots that z_img also reads; empty: own tile only.
    poses
        Ours: at inference z_img is averaged over the eight rotations and reflections of a tile.
    """

    tile_px: int = 224
    mpp: float = 1.0
    patch_px: int = 32
    width: int = 192
    depth: int = 6
    heads: int = 3
    stem: Stem = Stem.texture
    clip: bool = False
    skip: bool = True
    context_um: list[float] = field(default_factory=list)
    poses: bool = True


@dataclass
class TextConfig:
    """The text tower.

    Parameters
    ----------
    kind
        The paper's sentences, or our pairs.
    width, depth, heads
        Shape of the transformer over the tokens of a sentence, or the subword pieces of a symbol.
    pieces
        Size of the vocabulary of a tokenizer that is learned on the training genes (byte-pair encoding).
    gene_table
        A learned embedding for each training gene (paper: added to the tokens of the symbol; pairs: a residual).
    subwords
        Pairs only, ours: encode the subword pieces of the symbol, so that unseen genes have an embedding.
    described
        Pairs only, ours: what else describes a gene.
    values
        How a value becomes a vector.
    knots, value_max, fourier
        For ``values = bins``: knots on [0, value_max] of log1p expression, and number of Fourier frequencies;
        ``value_max`` is also the end of the grid of zero-shot prediction.
    pool
        Pairs only: how pairs are pooled; sentences are averaged, as in the paper.
    clip
        Sentences only: CLIP's QuickGELU and 77 positions, which its checkpoints need.
    """

    kind: Text = Text.pairs
    width: int = 128
    depth: int = 2
    heads: int = 4
    pieces: int = 600
    gene_table: bool = True
    subwords: bool = True
    described: GeneDescription = GeneDescription.none
    values: Values = Values.bins
    knots: int = 32
    value_max: float = 8.0
    fourier: int = 0
    pool: PairPool = PairPool.attention
    clip: bool = False


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
    mfm_loss, generator
        Its distance and its generator.
    mfm_spots
        Ours: the same at spot level: half of the spots of a batch are masked, and their z_img is generated from the
        z_img of their neighbours.
    pair
        Weight of pair-aware adversarial training (paper: 0.1).
    paat, reversal, shuffled
        Which variant, the factor of the reversed gradient (our reading: 1), and the share of genes whose values are
        permuted (paper: all, 1.0).
    ranking, grid
        Ours: cross-entropy of a gene's true value among ``grid`` values, which trains zero-shot prediction directly.
    correlation
        Ours: 1 - Pearson correlation, over the spots of a batch, of each gene's zero-shot prediction with its values.
    """

    contrast: float = 1.0
    soft_targets: float = 0.1
    mfm: float = 1.0
    mask: float = 0.5
    mfm_loss: MFMLoss = MFMLoss.mse
    generator: Generator = Generator.attention
    mfm_spots: float = 0.0
    pair: float = 0.1
    paat: Paat = Paat.none
    reversal: float = 1.0
    shuffled: float = 1.0
    ranking: float = 1.0
    grid: int = 16
    correlation: float = 0.0


@dataclass
class TrainConfig:
    """How to train.

    Parameters
    ----------
    steps, batch, warmup
        Optimiser steps, spots a step, steps of linear warm-up (then cosine decay, as in the paper).
    learning_rate, tower_rate, weight_decay
        AdamW (paper: weight decay 0.05, rate 1e-6 for all). ``tower_rate`` is that of towers that start from a
        checkpoint (:meth:`CoMTIP.start_from`), our reading.
    genes, fewest_genes, ranked_genes
        Genes of a profile in a step, at most and at least (the number is drawn), and genes in the ranking loss.
    forget
        Ours: share of the genes of a step that are encoded as if unseen (without their learned embedding), so that
        symbol and description suffice alone; of the same share again the description is withheld.
    min_detected, max_genes
        Vocabulary: genes detected in at least this share of the training spots, and of those at most ``max_genes``,
        by mean expression.
    neighbours
        Ours: the spots of a batch are neighbours on one section; otherwise they are drawn from all sections.
    views, shift_um
        Tiles cached for each spot, and how far each is shifted at random.
    jitter
        Strength of a random scale and offset of each patch statistic, per sample (stain augmentation).
    mixup
        Ours: mixup of tiles and profiles within a batch, shares drawn from Beta(mixup, mixup); 0: off.
    table_speed
        Ours: learning-rate factor of the gene table of pairs. It starts at zero and a gene is not in every step, so
        at the common rate it would hardly move in a short training.
    average
        Decay of the exponential moving average of the weights, which is what a run returns.
    checkpoint_every
        Steps between checkpoints.
    accumulate, precision
        Micro-batches of ``batch`` spots a step, each with its own negatives, and what steps are computed in
        (:func:`stzoo.core.training.loop.fit`).
    validate_every, patience, watch
        With held-out sections: steps between validations, validations without improvement after which training stops
        (0: never), and the score to maximise.
    shard_above
        With several ranks: networks of more parameters than this are sharded (FSDP2), others replicated (DDP).
    """

    steps: int = 600
    batch: int = 96
    warmup: int = 30
    learning_rate: float = 1e-3
    tower_rate: float = 1e-6
    weight_decay: float = 0.05
    genes: int = 128
    fewest_genes: int = 16
    ranked_genes: int = 512
    forget: float = 0.0
    min_detected: float = 0.1
    max_genes: int = 1000
    neighbours: bool = False
    views: int = 3
    shift_um: float = 20.0
    jitter: float = 0.2
    mixup: float = 0.0
    table_speed: float = 1.0
    average: float = 0.99
    checkpoint_every: int = 100
    accumulate: int = 1
    precision: Precision = Precision.fp32
    validate_every: int = 50
    patience: int = 0
    watch: Watch = Watch.zero_shot_pcc
    shard_above: int = 50_000_000


@dataclass
class CoMTIPConfig:
    """Options of :class:`~stzoo.plugins.comtip.model.CoMTIP`.

    Parameters
    ----------
    embedding_dim
        Width of the shared embedding space.
    statistics
        Ours: :meth:`embed` also returns mean and standard deviation of the patch statistics (texture stem only).
    context_um
        Ours: widths (µm) of Gaussian means over neighbouring spots' vectors, concatenated to the spot's own; empty for
        the own vector only.
    vision, text
        The two towers.
    objective, train
        Losses, and training.
    """

    embedding_dim: int = 128
    statistics: bool = True
    context_um: list[float] = field(default_factory=lambda: [200.0, 400.0])
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
