"""The paper's text branch: one sentence for each (gene, value) pair through CLIP's text transformer.

"The expression value of {gene} is {value}." (paper, section 2.2). The number is one placeholder token, to which the
vector of the value is added: its digits carry nothing, the affine map carries all (our reading; specification, A5).

The transformer is causal and a sentence is read at its end-of-text token, so what stands before the value depends on
the gene only: it is read once for each gene, and of each pair only the three tokens after it, which are the same for
all (placeholder, ".", end of text). That equals the naive pass (:meth:`SentenceTower.encode_naively`) to float error,
gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from stzoo import ConfigError, GeneError, WeightsError
from stzoo.core.nn import ClipText, ClipTextConfig
from stzoo.core.nn.transformer import KeysValues
from stzoo.plugins.comtip.config import TextConfig, Values
from stzoo.plugins.comtip.text_tower import GeneInputs, checkpoint_activations
from torch import Tensor, nn

MAX_SYMBOL = 20
"""Tokens of a symbol that are read at most; with them, the longest sentence has 29."""

BEFORE, AFTER = ("The", "expression", "value", "of"), "is"


@dataclass(frozen=True)
class SentenceTokenizer:
    """A tokenizer, and its tokens of the template.

    Parameters
    ----------
    tokenizer
        ``tokenizers.Tokenizer``.
    before
        Start of text and the words before the symbol.
    after
        The word between symbol and value.
    ending
        Placeholder of the value, ".", end of text.
    upper
        Symbols are read in capitals (tokenizers that were learned on symbols; CLIP's knows lower case only).
    """

    tokenizer: Any
    before: tuple[int, ...]
    after: int
    ending: tuple[int, int, int]
    upper: bool

    @property
    def suffix(self) -> Tensor:
        """The tokens after "is", int64 (3,)."""
        return torch.tensor(self.ending, device="cpu")  # also where modules are made without weights

    @property
    def size(self) -> int:
        """Number of tokens there are."""
        return int(self.tokenizer.get_vocab_size())

    def symbol(self, gene: str) -> list[int]:
        """Return the tokens of a symbol, at most :data:`MAX_SYMBOL`.

        Raises
        ------
        GeneError
            The symbol is blank.
        """
        text = gene.strip().upper() if self.upper else gene.strip()
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids[:MAX_SYMBOL]
        if not ids:
            raise GeneError(f"'{gene}' is no gene symbol", todo="name a gene")
        return ids

    def dumps(self) -> bytes:
        """Return its ``tokenizer.json``."""
        return str(self.tokenizer.to_str()).encode("utf-8")


def load_sentence_tokenizer(data: bytes) -> SentenceTokenizer:
    """Read what :meth:`SentenceTokenizer.dumps` wrote, learned or CLIP's.

    Raises
    ------
    WeightsError
        It is neither.
    """
    tokenizer = parse_tokenizer(data, None)
    return (
        wrap_learned_tokenizer(tokenizer)
        if tokenizer.token_to_id("[START]") is not None
        else wrap_clip_tokenizer(tokenizer, None)
    )


def encode_sentences(tokenizer: SentenceTokenizer, genes: Sequence[str], known: Mapping[str, int]) -> GeneInputs:
    """Return what :class:`~stzoo.plugins.comtip.sentences.SentenceTower` reads of genes.

    Parameters
    ----------
    tokenizer
        Learned or CLIP's.
    genes
        Symbols, g of them.
    known
        Place of each gene of the vocabulary of the training.

    Returns
    -------
    Tokens of the sentences up to and including "is", 0 after them (0 may be a token too: the last token that is not 0
    is "is"), and which of them are the symbol's. ``described`` has width 0.

    Raises
    ------
    GeneError
        A symbol is blank.
    """
    start = len(tokenizer.before)
    symbols = [tokenizer.symbol(gene) for gene in genes]
    length = start + max(map(len, symbols), default=0) + 1
    tokens = torch.zeros(len(genes), length, dtype=torch.int64)
    marks = torch.zeros(len(genes), length, dtype=torch.bool)
    for row, mark, ids in zip(tokens, marks, symbols, strict=True):
        prefix = [*tokenizer.before, *ids, tokenizer.after]
        row[: len(prefix)] = torch.tensor(prefix)
        mark[start : start + len(ids)] = True
    index = torch.tensor([known.get(gene, -1) for gene in genes], dtype=torch.int64)
    return GeneInputs(tokens, index, marks, torch.zeros(len(genes), 0))


def wrap_learned_tokenizer(tokenizer: Any) -> SentenceTokenizer:
    """Find the template among the special tokens of a tokenizer that was learned on gene symbols."""
    before = tuple(_find_tokens(tokenizer, "[START]", *(f"[{word}]" for word in BEFORE)))
    value, stop, end = _find_tokens(tokenizer, "[VALUE]", "[.]", "[END]")
    (after,) = _find_tokens(tokenizer, f"[{AFTER}]")
    return SentenceTokenizer(tokenizer, before, after, (value, stop, end), upper=True)


def wrap_clip_tokenizer(tokenizer: Any, where: Path | None) -> SentenceTokenizer:
    """Find the template in CLIP's vocabulary; the placeholder is its token of the number 0 (our reading)."""
    start, end, number, stop = _find_tokens(
        tokenizer, "<|startoftext|>", "<|endoftext|>", "0</w>", ".</w>", where=where
    )
    words = [tokenizer.encode(word, add_special_tokens=False).ids for word in (*BEFORE, AFTER)]
    before = (start, *(piece for word in words[:-1] for piece in word))
    if len(words[-1]) != 1 or words[-1] == [0]:
        raise WeightsError("the tokenizer is not CLIP's: 'is' is not one token", where=where)
    return SentenceTokenizer(tokenizer, before, words[-1][0], (number, stop, end), upper=False)


def _find_tokens(tokenizer: Any, *words: str, where: Path | None = None) -> list[int]:
    ids = [tokenizer.token_to_id(word) for word in words]
    if None in ids:
        raise WeightsError(
            f"the tokenizer has no token '{words[ids.index(None)]}'",
            where=where,
            todo="use the tokenizer that belongs to the weights",
        )
    return ids


def parse_tokenizer(data: bytes, where: Path | None) -> Any:
    """Read the content of a ``tokenizer.json``.

    Raises
    ------
    WeightsError
        It is none.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # all that the package raises for what it can not parse
        raise WeightsError(f"tokenizer.json can not be read: {error}", where=where) from error


SAMPLES, GENES = 16, 64
"""Samples and genes encoded at a time; samples of a chunk share an attention matrix in which they are masked from
each other, so chunks should be small."""

_POSITIONS = 32  # of towers that start from nothing; the longest sentence has 29 tokens


@dataclass(frozen=True)
class GenePrefix:
    """Cached keys and values of the sentence prefixes of g genes, one row each.

    Parameters
    ----------
    past
        Keys and values of each layer, (g, heads, l, width / heads).
    length
        int64 (g,), tokens of each prefix; the rest is padding.
    """

    past: list[KeysValues]
    length: Tensor

    def __len__(self) -> int:
        """Return the number of genes."""
        return len(self.length)

    def __getitem__(self, rows: Tensor | slice) -> GenePrefix:
        """Return some of the genes."""
        return GenePrefix([(keys[rows], values[rows]) for keys, values in self.past], self.length[rows])


class SentenceTower(nn.Module):
    """(gene, value) pairs to one vector, as the paper has it (section 2.2 of the specification).

    Parameters
    ----------
    config
        Shape; the paper's is CLIP's: width 512, 12 layers, 8 heads, ``clip``.
    n_genes
        Genes of the vocabulary, each with a learned vector that is added to the tokens of its symbol.
    n_tokens
        Tokens of the tokenizer.
    suffix
        int64 (s,), the tokens after "is": placeholder of the value first, end of text last.
    out
        Width of the shared space.

    Raises
    ------
    ConfigError
        Values in bins, which the sentences do not have.

    Notes
    -----
    Shared weights for all genes instead of parallel encoders (A3), one projection for both P_sent and P_txt (both are
    linear, and so is the mean between them): our reading.
    """

    suffix: Tensor

    def __init__(self, config: TextConfig, n_genes: int, n_tokens: int, suffix: Tensor, out: int) -> None:
        super().__init__()
        if config.values not in (Values.affine, Values.none):
            raise ConfigError(
                f"text.values is '{config.values.name}', which sentences do not read", todo="use affine, or none"
            )
        self.config = config
        self.text = ClipText(
            ClipTextConfig(
                vocabulary=n_tokens,
                positions=77 if config.clip else _POSITIONS,
                width=config.width,
                depth=config.depth,
                heads=config.heads,
                quick_gelu=config.clip,
            )
        )
        self.genes = nn.Embedding(n_genes, config.width) if config.gene_table else None
        self.value = nn.Linear(1, config.width) if config.values is Values.affine else None
        self.projection = nn.Linear(config.width, out, bias=False)
        self.register_buffer("suffix", suffix.clone(), persistent=False)  # the tokenizer has it
        self._initialise()

    def _initialise(self) -> None:
        """Initialise gene embeddings to 0; a value of 1 has about the norm of a CLIP token embedding."""
        if self.genes is not None:
            nn.init.zeros_(self.genes.weight)
        if self.value is not None:
            nn.init.normal_(self.value.weight, std=0.02)
            nn.init.zeros_(self.value.bias)
        nn.init.normal_(self.projection.weight, std=self.config.width**-0.5)

    def encode_genes(self, inputs: GeneInputs) -> GenePrefix:
        """Encode the prefix "The expression value of {gene} is" of each gene, once for all samples."""
        return GenePrefix(self.text.prefix(self._embed_tokens(inputs)), _count_tokens(inputs.tokens))

    def encode_profiles(self, code: GenePrefix, values: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return z_txt (b, out), not normalised: the mean over the sentences of a sample (paper).

        Parameters
        ----------
        code
            Of g genes.
        values
            Log-normalised expression (b, g).
        missing
            bool (b, g), True where a gene was not measured; it is left out. A sample of which nothing was measured
            has z_txt 0.
        """
        b, g = values.shape
        here = torch.ones_like(values) if missing is None else (~missing).to(values)
        values = values if missing is None else values.masked_fill(missing, 0.0)
        share = here / here.sum(1, keepdim=True).clamp_min(1)

        def pool(some: GenePrefix, values: Tensor, share: Tensor) -> Tensor:
            return torch.einsum("gbd,bg->bd", self._read(some, values), share)

        run = self._checkpoint_chunks(b, g, pool)
        samples = [
            torch.stack(
                [run(code[some], values[rows, some], share[rows, some]) for some in _split_range(g, GENES)]
            ).sum(0)
            for rows in _split_range(b, SAMPLES)
        ]
        z: Tensor = self.projection(torch.cat(samples))
        return z

    def encode_pairs(self, code: GenePrefix, values: Tensor) -> Tensor:
        """Return the vector (k, g, out) of each sentence by itself, not normalised, of values (k, g)."""
        k, g = values.shape
        run = self._checkpoint_chunks(k, g, lambda some, v: self._read(some, v).transpose(0, 1))
        rows = [
            torch.cat([run(code[some], values[rows, some]) for some in _split_range(g, GENES)], dim=1)
            for rows in _split_range(k, SAMPLES)
        ]
        projected: Tensor = self.projection(torch.cat(rows))
        return projected

    def encode_naively(self, inputs: GeneInputs, values: Tensor, *, length: int | None = None) -> Tensor:
        """Return what :meth:`encode_pairs` does, from whole sentences padded to ``length``: a reference."""
        b, g = values.shape
        s, at = len(self.suffix), _count_tokens(inputs.tokens)
        pad = (length or inputs.tokens.shape[1] + s) - inputs.tokens.shape[1]
        ends = at[:, None] + torch.arange(s, device=at.device)
        tokens = F.pad(inputs.tokens, (0, pad)).scatter(1, ends, self.suffix.expand(g, s))
        whole = GeneInputs(tokens, inputs.index, F.pad(inputs.symbol, (0, pad)), inputs.described)
        place = F.one_hot(at, tokens.shape[1])[None, ..., None]  # (1, g, l, 1)
        embedded = self._embed_tokens(whole) + place * self._embed_values(values)[:, :, None]  # (b, g, l, width)
        features = self.text(embedded.flatten(0, 1)).unflatten(0, (b, g))
        projected: Tensor = self.projection(features[:, torch.arange(g), ends[:, -1]])
        return projected

    def _embed_tokens(self, inputs: GeneInputs) -> Tensor:
        """Return token embeddings (g, l, width), the gene's vector added to each token of its symbol (A5)."""
        tokens: Tensor = self.text.token_embedding(inputs.tokens)
        if self.genes is None:
            return tokens
        seen = inputs.symbol & (inputs.index >= 0)[:, None]
        vectors: Tensor = self.genes(inputs.index.clamp_min(0))
        return tokens + seen[..., None] * vectors[:, None]

    def _embed_values(self, values: Tensor) -> Tensor:
        """Return W v + b (..., width), or 0 without value embedding."""
        if self.value is None:
            return values.new_zeros(1).expand(*values.shape, self.config.width)
        vectors: Tensor = self.value(values[..., None])
        return vectors

    def _read(self, code: GenePrefix, values: Tensor) -> Tensor:
        """Return features (g, b, width) at the end-of-text token of the sentences of values (b, g).

        The suffixes of all b sentences of a gene are encoded side by side after its one prefix, masked from each other,
        so the keys and values of the prefix are not copied b times.
        """
        b, g = values.shape
        s, length = len(self.suffix), code.past[0][0].shape[2]
        words = self.text.token_embedding(self.suffix).expand(g, b, s, -1)
        first = words[:, :, :1] + self._embed_values(values.T)[:, :, None]
        ends = torch.cat([first, words[:, :, 1:]], dim=2).flatten(1, 2)  # (g, b * s, width)
        steps = torch.arange(s, device=values.device).repeat(b)
        sample = torch.arange(b, device=values.device).repeat_interleave(s)
        among = (sample[:, None] == sample) & (steps[:, None] >= steps)  # (b * s, b * s)
        before = torch.arange(length, device=values.device) < code.length[:, None]  # (g, length)
        mask = torch.cat([before[:, None].expand(-1, b * s, -1), among.expand(g, -1, -1)], dim=2)
        features = self.text.suffix(ends, code.length[:, None] + steps, code.past, mask=mask[:, None])
        return features[:, s - 1 :: s]

    def _checkpoint_chunks(self, b: int, g: int, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Wrap ``run`` in activation checkpointing when there is more than one chunk.

        The activations of a chunk are about 150 times its output; they are recomputed instead, so that memory is that
        of one chunk.
        """
        return checkpoint_activations(run, when=b > SAMPLES or g > GENES)


def _count_tokens(tokens: Tensor) -> Tensor:
    """Return the number of tokens before the padding, int64 (g,): the last that is not 0 ends the beginning."""
    places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    return ((tokens != 0) * places).amax(1)


def _split_range(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))
