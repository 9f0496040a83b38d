"""Plugin of stzoo: the encoder 'lite0'. Light to import: the model itself is imported on first use."""

from collections.abc import Iterable

from stzoo import ModelSpec, hookimpl

STZOO_API = 1


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the model."""
    return [
        ModelSpec(
            name="lite0",
            role="encoder",
            target="stzoo_lite0.model:Lite0",
            config="stzoo_lite0.model:Lite0Config",
            summary="EfficientNet-Lite0 with ImageNet weights: mean and spread of its last map",
            license="MIT",
            citation="Tan and Le 2019, arXiv 1905.11946",
        )
    ]
