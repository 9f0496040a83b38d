"""Pieces of gene symbols: a small byte-pair encoding, so that KRT5 and KRT8 share what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MAX_PIECES = 12


def train_tokenizer(genes: Sequence[str], size: int) -> Any:
    """Learn a tokenizer of gene symbols (``tokenizers.Tokenizer``); piece 0 is padding, 1 is unknown."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Split
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Split(Regex(r"[A-Z]+|\d|[^A-Z\d]"), behavior="isolated")
    alphabet = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
    trainer = BpeTrainer(
        vocab_size=size, special_tokens=["[PAD]", "[UNK]"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([gene.upper() for gene in genes], trainer)
    return tokenizer


def load_tokenizer(data: bytes) -> Any:
    """Read a tokenizer from its ``tokenizer.json``."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(data.decode("utf-8"))


def encode(tokenizer: Any, genes: Sequence[str]) -> Tensor:
    """Return the pieces of each symbol, int64 (g, :data:`MAX_PIECES`), 0 where there is none."""
    rows = [tokenizer.encode(gene.upper()).ids[:MAX_PIECES] for gene in genes]
    out = torch.zeros(len(rows), MAX_PIECES, dtype=torch.int64)
    for place, ids in zip(out, rows, strict=True):
        place[: len(ids)] = torch.tensor(ids or [1])
    return out
