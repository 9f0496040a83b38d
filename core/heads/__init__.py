"""Heads: from an embedding to expression (offered through the hook, like a plugin's)."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo.core.hookspecs import hookimpl
from stzoo.core.specs import HeadSpec

STZOO_API = 1


@hookimpl
def stzoo_heads() -> Iterable[HeadSpec]:
    """Offer the heads that ship with stzoo."""
    return [
        HeadSpec("ridge", "stzoo.core.heads.ridge:RidgeHead", "a linear map of the embedding, its penalty chosen"),
        HeadSpec("mlp", "stzoo.core.heads.mlp:MLPHead", "a few small networks on the embedding, averaged"),
        HeadSpec("retrieval", "stzoo.core.heads.retrieval:RetrievalHead", "the training spots that look most alike"),
    ]
