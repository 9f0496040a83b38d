"""Plugin of stzoo: the aligner 'paste'. Light to import: the model itself is imported on first use."""

from collections.abc import Iterable

from stzoo import ModelSpec, hookimpl

STZOO_API = 1


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the model."""
    return [
        ModelSpec(
            name="paste",
            role="aligner",
            target="stzoo_paste.model:Paste",
            config="stzoo_paste.model:PasteConfig",
            summary="PASTE: optimal transport of expression and distances, a rigid motion",
            license="MIT",
            citation="doi:10.1038/s41592-022-01459-6",
        )
    ]
