"""The text branch of configuration ``plus`` (ours; specification, section 7): (gene, value) pairs.

A gene is encoded once for all samples and combined with each value by a small MLP, so a step costs O(g) symbol
encodings and O(b g) small MLPs instead of O(b g) sentences. The interface of both text branches is defined here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from stzoo.core.nn import Block, attention
from stzoo.plugins.comtip.config import PairPool, TextConfig, Values
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class GeneInputs:
    """Genes, a row each.

    Parameters
    ----------
    tokens
        int64 (g, l), tokens of the symbol, or of the sentence up to the value; 0 where there is none.
    index
        int64 (g,), place in the vocabulary of the training, -1 for a gene that was never seen.
    symbol
        bool (g, l), which tokens are the symbol's.
    described
        float32 (g, t), features of the full name and aliases; t is 0 where they are not read.
    """

    tokens: Tensor
    index: Tensor
    symbol: Tensor
    described: Tensor

    def __len__(self) -> int:
        """Return the number of genes."""
        return len(self.index)

    def __getitem__(self, rows: Tensor | slice) -> GeneInputs:
        """Return some of the genes."""
        return GeneInputs(self.tokens[rows], self.index[rows], self.symbol[rows], self.described[rows])

    def to(self, device: str) -> GeneInputs:
        """Return the genes on a device."""
        return GeneInputs(*(part.to(device) for part in (self.tokens, self.index, self.symbol, self.described)))


class TextTower(Protocol):
    """Interface of both text branches; the encoding of genes (``code``) is opaque to callers."""

    def encode_genes(self, inputs: GeneInputs) -> Any:
        """Encode the genes, once for all samples of a batch."""
        ...

    def encode_profiles(self, code: Any, values: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return z_txt (b, out), not normalised, of expression values (b, g)."""
        ...

    def encode_pairs(self, code: Any, values: Tensor) -> Tensor:
        """Return (k, g, out): every (gene, value) pair (k, g) encoded as a profile of its own."""
        ...


def checkpoint_activations(function: Callable[..., Tensor], *, when: bool = True) -> Callable[..., Tensor]:
    """Wrap a function in activation checkpointing: it is recomputed in the backward pass. It must be deterministic.

    Parameters
    ----------
    when
        False to return ``function`` itself, as when gradients are disabled.
    """
    if not (when and torch.is_grad_enabled()):
        return function

    def run(*inputs: Any) -> Tensor:
        out: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return out

    return run


_BUDGET = 1 << 24
"""Numbers of the widest tensor of a part of a batch (64 MiB): profiles are read in parts, and again for gradients."""


class PairTower(nn.Module):
    """Expression profiles, as sets of (gene, value) pairs, to vectors.

    Parameters
    ----------
    config
        Shape and switches.
    n_genes, n_tokens, n_described
        Genes of the vocabulary, pieces of the tokenizer (0 is padding), features of the description.
    out
        Width of the shared space.
    """

    def __init__(self, config: TextConfig, n_genes: int, n_tokens: int, out: int, n_described: int = 0) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if config.subwords:
            self.pieces = nn.Embedding(n_tokens, width, padding_idx=0)
            self.places = nn.Parameter(torch.randn(32, width) * 0.02)
            self.blocks = nn.ModuleList(
                Block(width, config.heads, mlp_ratio=2.0, eps=1e-6) for _ in range(config.depth)
            )
            nn.init.normal_(self.pieces.weight, std=0.1)
        if config.gene_table:
            self.residual = nn.Embedding(n_genes, width)
            nn.init.normal_(self.residual.weight, std=0.0 if config.subwords else 0.1)
        self.description = nn.Linear(n_described, width) if n_described else None
        self.value = ValueVectors(config)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        if config.pool is PairPool.attention:
            self.query = nn.Parameter(torch.randn(config.heads, 1, width // config.heads) * 0.1)
            self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.projection = nn.Linear(width, out, bias=False)

    def encode_genes(self, inputs: GeneInputs) -> Tensor:
        """Return an embedding for each gene, (g, width): its description, plus a learned vector for training genes.

        Without a description (or where it is not used) the subword pieces of the symbol take its place.
        """
        vectors = self.to_v.weight.new_zeros(len(inputs), self.config.width)
        if self.config.subwords:
            vectors = self._encode_symbols(inputs.tokens)
        if self.description is not None:
            written = (inputs.described != 0).any(1, keepdim=True)
            vectors = torch.where(written, self.description(inputs.described), vectors)
        if self.config.gene_table:
            seen = inputs.index >= 0
            vectors = vectors + self.residual(inputs.index.clamp_min(0)) * seen[:, None]
        return vectors

    def _encode_symbols(self, tokens: Tensor) -> Tensor:
        real = tokens != 0
        h = self.pieces(tokens) + self.places[: tokens.shape[1]]
        for block in self.blocks:
            h = block(h, mask=real[:, None, None, :])
        mean: Tensor = (h * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        return mean

    def encode_profiles(self, genes: Tensor, values: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return z_txt (b, out), not normalised.

        Memory is bounded for any number of samples: they are encoded in chunks, with activation checkpointing.

        Parameters
        ----------
        genes
            From :meth:`encode_genes`, (g, width).
        values
            Log-normalised expression (b, g).
        missing
            bool (b, g), True where a gene was not measured; it is left out.
        """
        rows = max(1, _BUDGET // (2 * self.config.width * max(1, values.shape[1])))
        if rows >= len(values):
            return self._pool(genes, values, missing)
        parts = []
        for start in range(0, len(values), rows):
            some = slice(start, start + rows)
            gone = None if missing is None else missing[some]
            parts.append(checkpoint_activations(self._pool)(genes, values[some], gone))
        return torch.cat(parts)

    def encode_pairs(self, genes: Tensor, values: Tensor) -> Tensor:
        """Return (k, g, out): each of the pairs (k, g) as a profile of its own."""
        z: Tensor = self.projection(self.to_v(self._mix_pairs(genes, values)))
        return z

    def _mix_pairs(self, genes: Tensor, values: Tensor) -> Tensor:
        value = self.value(values)  # (b, g, width)
        pair = genes + value + genes * value
        mixed: Tensor = pair + self.mix(pair)
        return mixed

    def _pool(self, genes: Tensor, values: Tensor, missing: Tensor | None) -> Tensor:
        pair = self._mix_pairs(genes, values)
        shown = self.to_v(pair)
        if self.config.pool is PairPool.mean:
            kept = torch.ones_like(values) if missing is None else (~missing).to(values.dtype)
            pooled = (shown * kept[..., None]).sum(1) / kept.sum(1, keepdim=True).clamp_min(1)
        else:
            mask = None if missing is None else ~missing[:, None, None, :]
            query = self.query.expand(len(values), -1, -1, -1)
            pooled = attention(query, self._split_heads(self.to_k(pair)), self._split_heads(shown), mask=mask).flatten(
                1
            )
        z: Tensor = self.projection(pooled)
        return z

    def _split_heads(self, x: Tensor) -> Tensor:
        b, g, _ = x.shape
        return x.view(b, g, self.config.heads, -1).transpose(1, 2)  # (b, heads, g, width / heads)


class ValueVectors(nn.Module):
    """Embedding of a log-normalised value: the paper's affine map, or soft bins with Fourier features (ours)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        if config.values is Values.affine:
            self.affine = nn.Linear(1, config.width)
        if config.values is Values.bins:
            self.knots = nn.Parameter(torch.randn(config.knots, config.width) * 0.1)
            self.waves = nn.Linear(2 * config.fourier, config.width, bias=False) if config.fourier else None

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., width) of values (...)."""
        c = self.config
        if c.values is Values.none:
            return values.new_zeros(*values.shape, c.width)
        if c.values is Values.affine:
            line: Tensor = self.affine(values[..., None])
            return line
        place = (values / c.value_max * (c.knots - 1)).clamp(0, c.knots - 1.001)
        low = place.long()
        share = (place - low)[..., None]
        vectors = torch.lerp(self.knots[low], self.knots[low + 1], share)
        if self.waves is not None:
            turns = values[..., None] / c.value_max * 2 ** torch.arange(c.fourier, device=values.device)
            vectors = vectors + self.waves(torch.cat([(math.pi * turns).sin(), (math.pi * turns).cos()], dim=-1))
        return vectors
