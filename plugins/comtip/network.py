"""Both towers of CoMTIP in one shared embedding space: tensors in, tensors out, without AnnData or losses."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from stzoo.plugins.comtip.config import CoMTIPConfig, Text
from stzoo.plugins.comtip.image_tower import ImageTower
from stzoo.plugins.comtip.sentences import SentenceTower
from stzoo.plugins.comtip.text_tower import PairTower
from torch import Tensor, nn


class CoMTIPNetwork(nn.Module):
    """Image tower, text tower and temperature.

    Parameters
    ----------
    config
        Shapes and switches.
    n_genes, n_tokens, n_described
        Size of the gene vocabulary and of the tokenizer, width of a gene description.
    suffix
        Sentences only: int64 tokens after the gene: placeholder of the value, full stop, end of text.
    """

    def __init__(
        self, config: CoMTIPConfig, n_genes: int, n_tokens: int, n_described: int = 0, suffix: Tensor | None = None
    ) -> None:
        super().__init__()
        out = config.embedding_dim
        self.image = ImageTower(config.vision, out, config.objective.generator)
        if config.text.kind is Text.pairs:
            self.text: Any = PairTower(config.text, n_genes, n_tokens, out, n_described)
        else:
            assert suffix is not None
            self.text = SentenceTower(config.text, n_genes, n_tokens, suffix, out)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def scale(self) -> Tensor:
        """Return the logit scale (inverse temperature), at most 100 (CLIP's)."""
        return self.logit_scale.exp().clamp(max=100.0)

    def value_scores(self, z: Tensor, code: Any, grid: Tensor) -> Tensor:
        """Score images against every (gene, value) pair of a grid: scaled cosine similarity (b, g, k).

        Specification, section 4 (template matching; the grid is our reading).

        Parameters
        ----------
        z
            z_img (b, d).
        code
            Codes of g genes, from :meth:`~stzoo.plugins.comtip.text_tower.TextTower.encode_genes`.
        grid
            (k,), log-normalised values.
        """
        texts = F.normalize(self.text.encode_pairs(code, grid[:, None].expand(-1, len(code))), dim=-1)  # (k, g, d)
        return self.scale() * torch.einsum("bd,kgd->bgk", F.normalize(z, dim=-1), texts)
