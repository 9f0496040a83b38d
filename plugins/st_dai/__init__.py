"""ST-DAI: one section measured in full, its neighbours sparsely (arXiv 2507.21516). Import-light: records only."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ModelSpec, hookimpl

STZOO_API = 1


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the imputer."""
    return [
        ModelSpec(
            name="st-dai",
            role="imputer",
            target="stzoo.plugins.st_dai.model:STDAI",
            config="stzoo.plugins.st_dai.config:STDAIConfig",
            summary="2.5D: one section in full, sparse neighbours; pseudo-labels, domain layers, confidence",
            license="Apache-2.0",
            citation="arXiv:2507.21516 (re-implementation; the authors published no code or weights)",
        )
    ]
