"""Options of S2S-ST. What is not in the paper or the authors' code is labelled "ours"."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from stzoo import ConfigError


@dataclass
class RefinerConfig:
    """Shape of the refiner, ours.

    Parameters
    ----------
    channels
        Feature channels.
    dilations
        One convolution for each.
    """

    channels: int = 24
    dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 4, 2, 1])


@dataclass
class CDCINNetworkConfig:
    """Shape of CDCIN (specification, section 2.4).

    Parameters
    ----------
    cascades
        Imputation blocks N, weights not shared (the authors' example: 3; their class default: 5).
    channels
        Feature channels, and growth of the dense layers, G0 = G; divisible by 4.
    blocks, layers
        Residual dense blocks D of an imputation block, and dense layers C of each.
    mask_channel
        Ours (A7): the mask of known places is a second input channel. Irregular masks need it.
    final_dc
        Ours (A3): measured values are put back after the last block too.
    consistency
        False for the ablation without data consistency: none between the blocks, none at the end.
    noise_weight
        Weight v of a measured value against the network's, for noisy data consistency (in the code, unused); None for
        hard data consistency.
    """

    cascades: int = 3
    channels: int = 32
    blocks: int = 8
    layers: int = 4
    mask_channel: bool = False
    final_dc: bool = True
    consistency: bool = True
    noise_weight: float | None = None


@dataclass
class CDCINTrainConfig:
    """How CDCIN is trained on one section (specification, sections 2.2 to 2.6).

    Parameters
    ----------
    iterations
        Optimiser steps. The code counts epochs (3000, about 45,000 steps on its example); A6: ours.
    batch
        Batch size: windows, and as many natural images.
    learning_rate, beta1, beta2
        Adam, constant rate.
    gene_scale
        κ: log-normalised values are divided by it before the network, and multiplied by it after.
    gene_weight
        λ_g: the losses on expression are weighted by λ_g / κ.
    s2s, s2d
        Switches of the losses on expression: sparser to sparse, and at the measured places of the full resolution.
    g1, g2
        The same two on natural images, the second one scored everywhere; both are off where no images are given.
    gradient
        λ_∇, weight of the L1 distance of Sobel gradients (the authors' example: 0).
    window
        Largest side P of a window, in places of the full grid
        (see :func:`~stzoo.plugins.s2s_st.cdcin.windows.choose_window_side`).
    drop_rate
        Share of known input places that are dropped at random in training (the authors' example: 0).
    augment
        Rotate and reflect the windows; the code does not on Visium's hexagonal lattice.
    frugal
        Ours: activation checkpointing of the dense blocks, at the cost of one more forward pass. Peak memory of a step
        at full size, windows of 32, batch 16, on a CPU: 3.5 GB instead of 9.5; it grows with the area of the windows.
    """

    iterations: int = 45_000
    batch: int = 16
    learning_rate: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    gene_scale: float = 10.0
    gene_weight: float = 10.0
    s2s: bool = True
    s2d: bool = True
    g1: bool = True
    g2: bool = True
    gradient: float = 0.0
    window: int = 64
    drop_rate: float = 0.0
    augment: bool = True
    frugal: bool = True


@dataclass
class InferenceConfig:
    """How a trained CDCIN fills a grid (specification, section 2.7).

    Parameters
    ----------
    step
        Stride of overlapping windows in places of the full grid, rounded down to a multiple of the stride; 0 for
        the code's, which is the stride itself. Larger is faster (ours).
    batch
        Windows predicted at a time.
    """

    step: int = 0
    batch: int = 16


@dataclass
class CDCINConfig:
    """All options of one CDCIN: its shape, its training, and its use."""

    network: CDCINNetworkConfig = field(default_factory=CDCINNetworkConfig)
    train: CDCINTrainConfig = field(default_factory=CDCINTrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass
class RefinedConfig:
    """The refined variant, ours (see :mod:`stzoo.plugins.s2s_st.refined.variant`).

    Parameters
    ----------
    components
        Principal components that couple the genes.
    context
        Use the second Gaussian process, with a kernel over position and tissue context.
    steps
        Steps of sparser-to-sparse training on the section; 0 for none.
    batch
        Batch size, in maps.
    learning_rate
        Of Adam.
    """

    components: int = 20
    context: bool = True
    steps: int = 40
    batch: int = 32
    learning_rate: float = 5e-4


class Variant(Enum):
    """Which S2S-ST."""

    refined = "refined"
    cdcin = "cdcin"


class Mode(Enum):
    """How many genes share a CDCIN."""

    shared = "shared"
    per_gene = "per_gene"


class RefinerStart(Enum):
    """Initial weights of the refiner."""

    natural = "natural"
    none = "none"


@dataclass
class S2SSTConfig:
    """Options of ``s2s-st``.

    Parameters
    ----------
    variant
        ``refined`` (ours): noise-aware kriging, refined by a network that learned from photographs, all genes at once.
        ``cdcin`` (the paper's): the cascaded network, trained on the section.
    mode
        Of ``cdcin``: ``per_gene``, a network for each gene (the paper's), or ``shared``, one for all (ours, A5).
        ``refined`` is always shared.
    images
        Folder with photographs for co-training on each section; empty for none.
    start
        Of ``refined``: the packaged weights, pretrained on photographs (``natural``), or ``none``: untrained.
    refined, cdcin
        Options of the variants.
    refiner
        Shape of the refiner; it belongs to its weights.
    """

    variant: Variant = Variant.refined
    mode: Mode = Mode.shared
    images: str = ""
    start: RefinerStart = RefinerStart.natural
    refined: RefinedConfig = field(default_factory=RefinedConfig)
    cdcin: CDCINConfig = field(default_factory=CDCINConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        least = {"components": 0, "steps": 0, "batch": 4}
        for name, value in least.items():
            if getattr(self.refined, name) < value:
                raise ConfigError(
                    f"refined.{name} is {getattr(self.refined, name)}, expected at least {value}",
                    where="config of 's2s-st'",
                )
        if self.mode is Mode.per_gene and self.variant is Variant.refined:
            raise ConfigError(
                "mode=per_gene belongs to variant=cdcin; the refined variant shares one network",
                where="config of 's2s-st'",
                todo="set variant=cdcin as well",
            )
