"""The genes of a training, and how any gene, seen or not, is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from stzoo.plugins.comtip.config import Described, Text, TextConfig
from stzoo.plugins.comtip.descriptions import WIDTH, packaged
from stzoo.plugins.comtip.genes import GeneInputs
from stzoo.plugins.comtip.sentence_tokens import (
    SentenceTokenizer,
    learn_tokenizer,
    load_sentence_tokenizer,
    sentence_inputs,
)
from stzoo.plugins.comtip.symbols import encode, load_tokenizer, train_tokenizer
from torch import Tensor


class Vocabulary:
    """Genes and a tokenizer.

    Parameters
    ----------
    genes
        Genes of the training, in the order of the gene table.
    config
        Which tower reads.
    tokenizer
        A :class:`SentenceTokenizer` for sentences, a ``tokenizers.Tokenizer`` for pairs; by default one is learned on
        the genes.
    """

    def __init__(self, genes: Sequence[str], config: TextConfig, tokenizer: Any = None) -> None:
        self.genes = tuple(genes)
        self.config = config
        self._place = {gene: i for i, gene in enumerate(self.genes)}
        learn: Any = learn_tokenizer if config.kind is Text.sentences else train_tokenizer
        self.tokenizer = tokenizer if tokenizer is not None else learn(self.genes, config.pieces)

    @classmethod
    def restored(cls, genes: Sequence[str], config: TextConfig, data: bytes) -> Self:
        """Return a vocabulary from what :meth:`dumps` returned."""
        load: Any = load_sentence_tokenizer if config.kind is Text.sentences else load_tokenizer
        return cls(genes, config, load(data))

    def dumps(self) -> bytes:
        """Return the tokenizer as the content of a ``tokenizer.json``."""
        if isinstance(self.tokenizer, SentenceTokenizer):
            return self.tokenizer.dumps()
        return str(self.tokenizer.to_str()).encode("utf-8")

    @property
    def n_tokens(self) -> int:
        """Size of the tokenizer."""
        if isinstance(self.tokenizer, SentenceTokenizer):
            return self.tokenizer.size
        return int(self.tokenizer.get_vocab_size())

    @property
    def suffix(self) -> Tensor | None:
        """Tokens after the gene, for sentences."""
        return self.tokenizer.suffix if isinstance(self.tokenizer, SentenceTokenizer) else None

    def place(self, gene: str) -> int:
        """Return the place of a gene in the table, -1 for one never seen."""
        return self._place.get(gene, -1)

    def inputs(self, genes: Sequence[str]) -> GeneInputs:
        """Return what the text tower reads of some genes."""
        if isinstance(self.tokenizer, SentenceTokenizer):
            return sentence_inputs(self.tokenizer, genes, self._place)
        tokens = encode(self.tokenizer, genes)
        index = torch.tensor([self.place(gene) for gene in genes], dtype=torch.int64)
        return GeneInputs(tokens, index, tokens != 0, self._described(genes))

    @property
    def n_described(self) -> int:
        """Features of what is written about a gene, 0 where it is not read."""
        return WIDTH if self.config.described is Described.sentences else 0

    def _described(self, genes: Sequence[str]) -> Tensor:
        if self.n_described == 0:
            return torch.zeros(len(genes), 0)
        return torch.from_numpy(packaged().vectors(genes))
