"""What a text tower reads of genes, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
