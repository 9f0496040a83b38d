"""Tokens of "The expression value of {gene} is {value}." (paper, section 2.2).

The number is one placeholder token, to which the vector of the value is added: its digits carry nothing, the affine map
carries all (our reading; specification, A5). So everything before it depends on the gene only, and everything after the
gene is the same three tokens for all: placeholder, ".", end of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stzoo.core.errors import GeneError, WeightsError
from stzoo.plugins.comtip.genes import GeneInputs
from stzoo.plugins.comtip.symbols import train_tokenizer
from torch import Tensor

MAX_SYMBOL = 20
"""Tokens of a symbol that are read at most; with them, the longest sentence has 29."""

_BEFORE, _AFTER = ("The", "expression", "value", "of"), "is"
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of CLIP's published tokenizer


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


def learn_tokenizer(genes: Sequence[str], size: int) -> SentenceTokenizer:
    """Learn byte-pair encoding on the training genes; the words of the template are tokens of their own.

    Parameters
    ----------
    genes
        Symbols to learn from.
    size
        Number of pieces of symbols; the template adds nine tokens.
    """
    from tokenizers import AddedToken

    tokenizer = train_tokenizer(genes, size)
    words = ["[START]", *(f"[{word}]" for word in _BEFORE), f"[{_AFTER}]", "[VALUE]", "[.]", "[END]"]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words])
    return _learned(tokenizer)


def clip_tokenizer(folder: Path) -> SentenceTokenizer:
    """Read CLIP's tokenizer from the folder of a checkpoint: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

    Raises
    ------
    WeightsError
        They are not there, or not CLIP's.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        tokenizer = _parsed(_read(folder / "tokenizer.json"), folder)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _from_merges(folder)
    else:
        raise WeightsError(
            "the checkpoint has no tokenizer",
            where=folder,
            todo="put tokenizer.json, or vocab.json and merges.txt, beside its tensors",
        )
    return _of_clip(tokenizer, folder)


def load_sentence_tokenizer(data: bytes) -> SentenceTokenizer:
    """Read what :meth:`SentenceTokenizer.dumps` wrote, learned or CLIP's.

    Raises
    ------
    WeightsError
        It is neither.
    """
    tokenizer = _parsed(data, None)
    return _learned(tokenizer) if tokenizer.token_to_id("[START]") is not None else _of_clip(tokenizer, None)


def sentence_inputs(tokenizer: SentenceTokenizer, genes: Sequence[str], known: Mapping[str, int]) -> GeneInputs:
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


def _learned(tokenizer: Any) -> SentenceTokenizer:
    before = tuple(_ids(tokenizer, "[START]", *(f"[{word}]" for word in _BEFORE)))
    value, stop, end = _ids(tokenizer, "[VALUE]", "[.]", "[END]")
    (after,) = _ids(tokenizer, f"[{_AFTER}]")
    return SentenceTokenizer(tokenizer, before, after, (value, stop, end), upper=True)


def _of_clip(tokenizer: Any, where: Path | None) -> SentenceTokenizer:
    """Find the template in CLIP's vocabulary; the placeholder is its token of the number 0 (our reading)."""
    start, end, number, stop = _ids(tokenizer, "<|startoftext|>", "<|endoftext|>", "0</w>", ".</w>", where=where)
    words = [tokenizer.encode(word, add_special_tokens=False).ids for word in (*_BEFORE, _AFTER)]
    before = (start, *(piece for word in words[:-1] for piece in word))
    if len(words[-1]) != 1 or words[-1] == [0]:
        raise WeightsError("the tokenizer is not CLIP's: 'is' is not one token", where=where)
    return SentenceTokenizer(tokenizer, before, words[-1][0], (number, stop, end), upper=False)


def _ids(tokenizer: Any, *words: str, where: Path | None = None) -> list[int]:
    ids = [tokenizer.token_to_id(word) for word in words]
    if None in ids:
        raise WeightsError(
            f"the tokenizer has no token '{words[ids.index(None)]}'",
            where=where,
            todo="use the tokenizer that belongs to the weights",
        )
    return ids


def _from_merges(folder: Path) -> Any:
    """Build CLIP's tokenizer from its two tables; the rules around them are those of transformers and open_clip."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    try:
        model = BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            unk_token="<|endoftext|>",
            end_of_word_suffix="</w>",
        )
    except Exception as error:  # all that the package raises for what it can not parse
        raise WeightsError(f"vocab.json and merges.txt can not be read: {error}", where=folder) from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"can not be read: {error.strerror}", where=path) from error


def _parsed(data: bytes, where: Path | None) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # all that the package raises for what it can not parse
        raise WeightsError(f"tokenizer.json can not be read: {error}", where=where) from error
