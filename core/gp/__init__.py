"""Gaussian processes that several methods share: kernels, likelihood and prediction, blocks that bound their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stzoo.core.runtime.public import offer

if TYPE_CHECKING:
    from stzoo.core.gp.components import Components as Components
    from stzoo.core.gp.fitting import Choice as Choice
    from stzoo.core.gp.fitting import Posterior as Posterior
    from stzoo.core.gp.fitting import Spectrum as Spectrum
    from stzoo.core.gp.fitting import choose as choose
    from stzoo.core.gp.fitting import likelihoods as likelihoods
    from stzoo.core.gp.fitting import posteriors as posteriors
    from stzoo.core.gp.fitting import predict as predict
    from stzoo.core.gp.kernels import Kernel as Kernel
    from stzoo.core.gp.kernels import Places as Places
    from stzoo.core.gp.noise import relative_noise as relative_noise
    from stzoo.core.gp.partition import fit_blocks as fit_blocks
    from stzoo.core.gp.partition import spacing as spacing
    from stzoo.core.gp.stacked import blocks_around as blocks_around
    from stzoo.core.gp.stacked import choose_kernels as choose_kernels

_HOMES = {
    "Choice": "fitting",
    "Components": "components",
    "Kernel": "kernels",
    "Places": "kernels",
    "Posterior": "fitting",
    "Spectrum": "fitting",
    "blocks_around": "stacked",
    "choose": "fitting",
    "choose_kernels": "stacked",
    "fit_blocks": "partition",
    "likelihoods": "fitting",
    "posteriors": "fitting",
    "predict": "fitting",
    "relative_noise": "noise",
    "spacing": "partition",
}

__all__ = sorted(_HOMES)
__getattr__ = offer(__name__, _HOMES)
