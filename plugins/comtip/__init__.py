"""CoMTIP: contrastive masked text-image pretraining (Qian et al., arXiv 2509.16892). Import-light: records only."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ModelSpec, WeightsSpec, hookimpl, weights_from_yaml

STZOO_API = 1


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the encoder."""
    return [
        ModelSpec(
            name="comtip",
            role="encoder",
            target="stzoo.plugins.comtip.model:CoMTIP",
            config="stzoo.plugins.comtip.config:CoMTIPConfig",
            summary="contrastive masked text-image pretraining: H&E and (gene, value) pairs in one space",
            license="Apache-2.0",
            citation="Qian et al. 2025, arXiv:2509.16892 (re-implementation; the authors published no code or weights)",
            recipes="stzoo.plugins.comtip/configs",
        )
    ]


@hookimpl
def stzoo_weights() -> Iterable[WeightsSpec]:
    """Offer the packaged weights."""
    return weights_from_yaml("stzoo.plugins.comtip/weights.yaml")
