"""Options of S2S-ST's network and training. What is not in the paper or the authors' code is labelled "ours"."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class NetworkConfig:
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
        Ours (A7): the network sees which places are known, beside their values. Irregular masks need it.
    final_dc
        Ours (A3): measured values are put back after the last block too.
    consistency
        False for the ablation without data consistency: none between the blocks, none at the end.
    noise_weight
        Weight v of a measured value against the network's, for noisy data consistency (in the code, unused); None
        takes measured values as they are.
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
class TrainConfig:
    """How CDCIN is trained on one section (specification, sections 2.2 to 2.6).

    Parameters
    ----------
    iterations
        Optimiser steps. The code counts epochs (3000, about 45,000 steps on its example); A6: ours.
    batch
        Windows, and as many natural images, a step.
    learning_rate, beta1, beta2
        Adam, constant rate.
    gene_scale
        κ: log-normalised values are divided by it before the network, and multiplied after.
    gene_weight
        λ_g: the losses on expression are weighted by λ_g / κ.
    s2s, s2d
        The losses on expression: sparser to sparse, and at the measured places of the full resolution.
    g1, g2
        The same two on natural images, the second one scored everywhere; both are off where no images are given.
    gradient
        λ_∇, weight of the L1 distance of Sobel gradients (the authors' example: 0).
    window
        Largest side P of a window, in places of the full grid (see :func:`~stzoo.plugins.s2s_st.windows.window_side`).
    drop_rate
        Share of known input places that are dropped at random in training (the authors' example: 0).
    augment
        Turn and mirror the windows; the code does not on Visium's hexagonal lattice.
    frugal
        Ours: keep only the inputs of the dense blocks for the backward pass and compute the rest again, one forward
        pass more. Peak memory of a step at full size, windows of 32, batch 16, on a CPU: 3.5 GB instead of 9.5;
        it grows with the area of the windows.
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
        Distance of overlapping windows in places of the full grid, rounded down to a multiple of the stride; 0 for
        the code's, which is the stride itself. Larger is faster (ours).
    batch
        Windows in memory at a time.
    """

    step: int = 0
    batch: int = 16


@dataclass
class CDCINConfig:
    """All options of one CDCIN: its shape, its training, and its use."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
