"""S2S-ST: sparser-to-sparse imputation of one section (arXiv 2507.16886). Import-light: records only."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ModelSpec, WeightsSpec, hookimpl, weights_from_yaml

STZOO_API = 1


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the imputer."""
    return [
        ModelSpec(
            name="s2s-st",
            role="imputer",
            target="stzoo.plugins.s2s_st.model:S2SST",
            config="stzoo.plugins.s2s_st.config:S2SSTConfig",
            summary="sparser-to-sparse: one section, kriged and refined by a network that learned from photographs",
            license="Apache-2.0",
            citation="arXiv:2507.16886 (re-implementation; the authors published no weights)",
        )
    ]


@hookimpl
def stzoo_weights() -> Iterable[WeightsSpec]:
    """Offer the packaged weights."""
    return weights_from_yaml("stzoo.plugins.s2s_st/weights.yaml")
