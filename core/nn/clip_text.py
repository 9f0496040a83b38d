"""CLIP's text transformer, which can also read many endings of a sentence whose beginning it has read once.

Token numbers to features in two steps, so that something can be added to the tokens between them::

    tokens = text.token_embedding(ids)              # (b, n, width)
    features = text(tokens)                         # (b, n, width), each token saw those before it

and in two pieces, which give the same features as the whole::

    past = text.prefix(tokens[:, :m])
    features = text.suffix(tokens[:, m:], torch.arange(m, n).expand(b, -1), past)   # (b, n - m, width)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from stzoo.core.errors import DataError
from stzoo.core.nn.transformer import Block, KeysValues, initialise
from torch import Tensor, nn


@dataclass(frozen=True)
class ClipTextConfig:
    """Shape of a :class:`ClipText`; the defaults are those of CLIP ViT-B/32.

    Parameters
    ----------
    vocabulary, positions
        Number of tokens there are, and that a text has at most.
    width, depth, heads
        Width of a token, number of blocks, heads of a block.
    mlp_ratio
        Hidden width of the MLPs, in widths of a token.
    quick_gelu
        OpenAI's activation instead of GELU.
    eps
        Epsilon of the layer norms.
    """

    vocabulary: int = 49408
    positions: int = 77
    width: int = 512
    depth: int = 12
    heads: int = 8
    mlp_ratio: float = 4.0
    quick_gelu: bool = True
    eps: float = 1e-5


class ClipText(nn.Module):
    """Text transformer: tokens, positions, causal pre-norm blocks, final norm (Radford et al., ICML 2021).

    Parameters
    ----------
    config
        The shape.

    Notes
    -----
    A token sees only those before it. So what stands after the end-of-text token, at which CLIP reads its feature,
    changes nothing: texts are padded to the longest, not to 77, and no mask of the padding is needed.
    """

    def __init__(self, config: ClipTextConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ClipTextConfig()
        self.token_embedding = nn.Embedding(c.vocabulary, c.width)
        self.position_embedding = nn.Parameter(torch.zeros(c.positions, c.width))
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, mlp_ratio=c.mlp_ratio, quick_gelu=c.quick_gelu, eps=c.eps) for _ in range(c.depth)
        )
        self.layernorm = nn.LayerNorm(c.width, eps=c.eps)
        initialise(self)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features (b, n, width) after the final norm of token embeddings (b, n, width).

        Raises
        ------
        DataError
            There are more tokens than positions.
        """
        tokens = self._add_positions(tokens)
        for block in self.blocks:
            tokens = block(tokens, causal=True)
        normed: Tensor = self.layernorm(tokens)
        return normed

    def prefix(self, tokens: Tensor) -> list[KeysValues]:
        """Read beginnings (b, n, width), and return what endings need of them: keys and values of each layer.

        Raises
        ------
        DataError
            There are more tokens than positions.
        """
        tokens, past = self._add_positions(tokens), []
        for block in self.blocks:
            tokens, kept = cast(Block, block).keep(tokens)
            past.append(kept)
        return past

    def suffix(
        self, tokens: Tensor, places: Tensor, past: Sequence[KeysValues], *, mask: Tensor | None = None
    ) -> Tensor:
        """Read endings of texts whose beginnings :meth:`prefix` has read.

        Parameters
        ----------
        tokens
            Token embeddings (b, n, width).
        places
            int64 (b, n), the place of each token in its text.
        past
            Keys and values of m tokens before, for each layer.
        mask
            bool (b, 1, n, m + n), which tokens a token sees; None: all m, and those before it among the n.

        Returns
        -------
        (b, n, width) after the final norm.
        """
        tokens = tokens + self.position_embedding[places]
        for block, kept in zip(self.blocks, past, strict=True):
            tokens = block(tokens, mask=mask, causal=mask is None, past=kept)
        normed: Tensor = self.layernorm(tokens)
        return normed

    def _add_positions(self, tokens: Tensor) -> Tensor:
        n = tokens.shape[1]
        if n > self.config.positions:
            raise DataError(f"a text of {n} tokens; this text tower reads {self.config.positions}")
        return tokens + self.position_embedding[:n]
