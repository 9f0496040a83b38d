"""The networks of CoMTIP: tensors in, tensors out; nothing here knows an AnnData or a loss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from stzoo.core.attention import attention
from stzoo.core.nn.blocks import Block
from stzoo.core.nn.vit import ViT, ViTConfig, take
from stzoo.plugins.comtip.config import CoMTIPConfig, Stem, TextConfig, VisionConfig
from stzoo.plugins.comtip.texture import N_STATISTICS
from torch import Tensor, nn


class ImageTower(nn.Module):
    """Tokens of a tile to one vector: ViT, mean over patches (paper, section 2.1), linear projection.

    Parameters
    ----------
    config
        Shape and stem.
    out
        Width of the shared space.
    """

    def __init__(self, config: VisionConfig, out: int) -> None:
        super().__init__()
        self.config = config
        shape = ViTConfig(config.tile_px, config.patch_px, config.width, config.depth, config.heads)
        self.vit = ViT(shape)
        if config.stem is Stem.texture:
            self.vit.patch_embedding = nn.Identity()  # type: ignore[assignment]  # the statistics take its place
            self.stem = nn.Linear(N_STATISTICS, config.width)
        self.projection = nn.Linear(config.width, out, bias=False)
        skips = config.skip and config.stem is Stem.texture
        self.skip = nn.Linear(2 * N_STATISTICS, out) if skips else None
        self.generator = FeatureGenerator(config.width, shape.patches)

    def tokens(self, inputs: Tensor) -> Tensor:
        """Embed patches, (b, P, width), of statistics (b, P, n), or of pixels (b, 3, h, w) for a linear stem."""
        if self.config.stem is Stem.linear:
            return self.vit.embed_patches(inputs)
        embedded: Tensor = self.stem(inputs)
        return embedded + self.vit.position_embedding[1:]

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return z_img (b, out), not normalised, and the patch features Z (b, P, width)."""
        features = self.vit.encode(self.tokens(inputs))[:, 1:]
        z: Tensor = self.projection(features.mean(1))
        if self.skip is not None:
            z = z + self.skip(torch.cat([inputs.mean(1), inputs.std(1)], dim=-1))
        return z, features

    def masked(self, inputs: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode visible patches only and generate the features of the hidden ones.

        Returns
        -------
        Visible indices (b, v), their features (b, v, width), hidden indices (b, h), generated features (b, h, width).
        """
        tokens = self.tokens(inputs)
        b, n = tokens.shape[:2]
        order = torch.rand(b, n, generator=generator).argsort(1).to(tokens.device)
        visible, hidden = order[:, math.floor(n * share) :], order[:, : math.floor(n * share)]
        seen = self.vit.encode(take(tokens, visible))[:, 1:]
        return visible, seen, hidden, self.generator(seen, hidden)


class FeatureGenerator(nn.Module):
    """Mask Feature Generator: one single-head cross-attention with a learned query for every position.

    Paper, section 2.1; that it is single-head and without bias or output projection is our reading.
    """

    def __init__(self, width: int, patches: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(patches, width) * 0.02)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """Return features (b, h, width) of ``hidden`` (b, h) positions from those of the visible ones (b, v, width)."""
        q = self.to_q(self.query[hidden])
        made = attention(q[:, None], self.to_k(seen)[:, None], self.to_v(seen)[:, None])
        return made[:, 0]


class TextTower(nn.Module):
    """(gene, value) pairs to one vector (ours; specification, section 7).

    A gene's vector is read from the pieces of its symbol, plus a learned residual for genes seen in training; a
    value is soft bins; a pair mixes both, and attention pools the pairs, whatever their number and order.

    Parameters
    ----------
    config
        Shape.
    n_genes, n_pieces
        Genes of the vocabulary; pieces of the tokenizer (0 is padding).
    out
        Width of the shared space.
    """

    def __init__(self, config: TextConfig, n_genes: int, n_pieces: int, out: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.pieces = nn.Embedding(n_pieces, width, padding_idx=0)
        self.places = nn.Parameter(torch.randn(32, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads, mlp_ratio=2.0, eps=1e-6) for _ in range(config.depth))
        self.residual = nn.Embedding(n_genes, width)
        self.knots = nn.Parameter(torch.randn(config.knots, width) * 0.1)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.query = nn.Parameter(torch.randn(config.heads, 1, width // config.heads) * 0.1)
        self.to_k, self.to_v = nn.Linear(width, width), nn.Linear(width, width)
        self.projection = nn.Linear(width, out, bias=False)
        nn.init.normal_(self.pieces.weight, std=0.1)
        nn.init.zeros_(self.residual.weight)

    def gene_vectors(self, pieces: Tensor, index: Tensor | None) -> Tensor:
        """Return (g, width).

        Parameters
        ----------
        pieces
            int64 (g, l), pieces of each symbol, 0 where there is none.
        index
            int64 (g,), place in the vocabulary for the learned residual, or None for genes never seen.
        """
        real = pieces != 0
        h = self.pieces(pieces) + self.places[: pieces.shape[1]]
        for block in self.blocks:
            h = block(h, mask=real[:, None, None, :])
        symbol: Tensor = (h * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        if index is not None:
            symbol = symbol + self.residual(index)
        return symbol

    def value_vectors(self, values: Tensor) -> Tensor:
        """Return (..., width) of log-normalised values: piecewise linear between the knots."""
        place = (values / self.config.value_max * (self.config.knots - 1)).clamp(0, self.config.knots - 1.001)
        low = place.long()
        share = (place - low)[..., None]
        vectors: Tensor = self.knots[low] * (1 - share) + self.knots[low + 1] * share
        return vectors

    def forward(self, genes: Tensor, values: Tensor, missing: Tensor | None = None) -> Tensor:
        """Return z_txt (b, out), not normalised.

        Parameters
        ----------
        genes
            Gene vectors (g, width).
        values
            Log-normalised expression (b, g).
        missing
            bool (b, g), True where a gene was not measured; it is left out.
        """
        value = self.value_vectors(values)  # (b, g, width)
        pair = genes + value + genes * value
        pair = pair + self.mix(pair)
        keys, shown = self._heads(self.to_k(pair)), self._heads(self.to_v(pair))
        query = self.query.expand(len(values), -1, -1, -1)
        mask = None if missing is None else ~missing[:, None, None, :]
        pooled = attention(query, keys, shown, mask=mask)  # (b, heads, 1, width / heads)
        z: Tensor = self.projection(pooled.flatten(1))
        return z

    def _heads(self, x: Tensor) -> Tensor:
        b, g, _ = x.shape
        return x.view(b, g, self.config.heads, -1).transpose(1, 2)  # (b, heads, g, width / heads)


class Network(nn.Module):
    """Both towers and the temperature."""

    def __init__(self, config: CoMTIPConfig, n_genes: int, n_pieces: int) -> None:
        super().__init__()
        self.image = ImageTower(config.vision, config.embedding_dim)
        self.text = TextTower(config.text, n_genes, n_pieces, config.embedding_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def scale(self) -> Tensor:
        """Return the factor of cosine similarities, at most 100 (CLIP's)."""
        return self.logit_scale.exp().clamp(max=100.0)

    def value_scores(self, z: Tensor, genes: Tensor, grid: Tensor) -> Tensor:
        """Score every value of a grid for every gene against images: scaled cosine (b, g, k).

        Specification, section 4 (template matching; the grid is our reading).
        """
        g, k = len(genes), len(grid)
        each = genes[:, None].expand(g, k, -1).reshape(g * k, 1, -1)
        pair_values = grid.expand(g, k).reshape(g * k, 1)
        texts = F.normalize(self._single(each, pair_values), dim=-1).view(g, k, -1)
        return self.scale() * torch.einsum("bd,gkd->bgk", F.normalize(z, dim=-1), texts)

    def _single(self, genes: Tensor, values: Tensor) -> Tensor:
        # One pair a "profile": pooling over one pair returns its value vector, so the query plays no part.
        value = self.text.value_vectors(values)
        pair = genes + value + genes * value
        pair = pair + self.text.mix(pair)
        z: Tensor = self.text.projection(self.text.to_v(pair)[:, 0])
        return z
