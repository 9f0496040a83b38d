"""Published image encoders as users touch them: a checkpoint in, embeddings of sections out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from stzoo import (
    BlockShare,
    Encoder,
    Progress,
    Ranks,
    Section,
    UsageError,
    WeightsError,
    head_descriptions,
    head_tensors,
    restore_module,
    take_heads,
)
from stzoo.core.arrays import Floats
from stzoo.core.errors import nearest
from stzoo.core.runtime.blocks import batches_of, stack_blocks
from stzoo.core.runtime.ranks import ALONE
from stzoo.core.weights.repository import empty
from stzoo.plugins.vit.config import Pool, ViTEncoderConfig
from stzoo.plugins.vit.tower import Tower

if TYPE_CHECKING:
    from stzoo import Tunable
    from torch import Tensor

__all__ = ["Pool", "ViTEncoder", "ViTEncoderConfig"]

_PREFIX = "tower."


class ViTEncoder(Encoder):
    """A frozen image encoder: ViT (Dosovitskiy et al. 2021), DINO (Caron et al. 2021), CLIP (Radford et al. 2021).

    It has weights once it was loaded, or made by :meth:`from_checkpoint`; before, everything that needs them raises
    :class:`~stzoo.core.errors.WeightsError`.
    """

    name = "vit"
    config_class = ViTEncoderConfig
    config: ViTEncoderConfig

    def __init__(self, config: Any = None, *, device: str = "cpu", seed: int = 0) -> None:
        super().__init__(config, device=device, seed=seed)
        self._tower: Tower | None = None
        self._checkpoint: dict[str, Any] = {}
        self._is_quantised = False

    @classmethod
    def from_checkpoint(cls, folder: Path, *, source: str, device: str = "cpu") -> Self:
        """Make an encoder of a published checkpoint.

        Parameters
        ----------
        folder
            A folder with a checkpoint of CLIP or PLIP (as transformers or open_clip write it), or of a ViT or DINO
            (timm, transformers); or one safetensors file. Normalisation and pooling are read from the configs beside
            it; where these say nothing, it is CLIP's or ImageNet's normalisation, and the class token.
        source
            Where it came from, for :meth:`description`; best an address at a commit.
        device
            A torch device string.

        Raises
        ------
        WeightsError
            No checkpoint, a pickle, keys of no known layout, or a tensor missing or of another shape.
        """
        from stzoo.plugins.vit.foreign import read_foreign

        checkpoint = read_foreign(Path(folder))
        model = cls(checkpoint.config)
        model._take(checkpoint.state)
        model._checkpoint = {"source": source, "sha256": checkpoint.sha256}
        return model.to(device)

    @property
    def uses_attention(self) -> bool:
        """True: the tower is a ViT."""
        return True

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding: of CLIP's shared space, or of a token."""
        return self.config.projection or self.config.width

    @property
    def tower(self) -> Tower:
        """The network, frozen.

        Raises
        ------
        WeightsError
            The model was neither loaded nor made of a checkpoint: nothing is ever embedded with random weights.
        """
        if self._tower is None:
            raise WeightsError(
                "this 'vit' has no weights",
                todo="load some: stzoo.load(...), or make them: ViTEncoder.from_checkpoint(folder, source=...)",
            )
        return self._tower

    def to(self, device: str) -> Self:
        """Move the network to a device."""
        if self._tower is not None:
            self._tower.to(device)
        return super().to(device)

    def embed(self, section: Section, *, batch_size: int = 64, progress: Progress | None = None) -> Floats:
        """Embed the tile of every spot (see :class:`Encoder`).

        For CLIP these are its ``image_embeds`` before they are normalised to length 1.

        Returns
        -------
        float32 (n_spots, embedding_dim).

        Raises
        ------
        WeightsError
            The model has no weights.
        DataError, UnitsError
            The section has no slide, or its µm/px are unknown.
        """
        blocks = self.embed_blocks(section, batch_size=batch_size, progress=progress)
        return stack_blocks(blocks, section.n_spots, self.embedding_dim)

    def embed_blocks(
        self,
        section: Section,
        share: BlockShare | None = None,
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> Iterator[tuple[slice, Floats]]:
        """Embed block by block (see :class:`Encoder`)."""
        tower, slide, centres = self.tower, section.require_slide(), section.pixels
        blocks = (share or BlockShare(section.n_spots)).blocks
        for block in blocks:
            parts = []
            for rows in batches_of([block], batch_size):
                tiles = slide.tiles(centres[rows], size_px=self.config.image_px, mpp=self.config.mpp)
                with torch.inference_mode():
                    parts.append(tower(torch.from_numpy(tiles).to(self.device)).cpu().numpy())
                if progress:
                    progress(rows.stop - blocks[0].start, blocks[-1].stop - blocks[0].start)
            yield block, np.concatenate(parts)

    def tunable(
        self, sections: Sequence[Section], *, cache: Path, contrast: bool = False, ranks: Ranks = ALONE
    ) -> Tunable:
        """Lend the tower to fine-tuning (see :class:`Encoder`); it has no objective of its own."""
        from stzoo.plugins.vit.finetuning import ViTTuning

        if contrast:
            raise UsageError("'vit' has no pretraining objective to go on with", todo="tune it with --no-contrast")
        if self._is_quantised:
            raise UsageError("a model in int8 can not be tuned", todo="load the weights again, without --int8")
        return ViTTuning(self.tower, self.config, sections, cache, ranks)

    def quantise(self) -> Self:
        """Compute the ViT in int8 on the CPU (see :meth:`Encoder.quantise`)."""
        from stzoo.core.nn import quantise

        self.to("cpu")
        self.tower.vit = quantise(self.tower.vit)
        self._is_quantised = True
        return self

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the network, float32, and those of the fitted heads.

        Raises
        ------
        WeightsError
            The model has no weights.
        UsageError
            It is in int8.
        """
        if self._is_quantised:
            raise UsageError("a model in int8 can not be saved", todo="load the weights again, and save those")
        own = {f"{_PREFIX}{name}": tensor for name, tensor in self.tower.state_dict().items()}
        return {**own, **head_tensors(self.fitted_heads)}

    def description(self) -> dict[str, Any]:
        """Return the checkpoint (``source``, and ``sha256`` of each file by its name) and the fitted heads."""
        return {"checkpoint": self._checkpoint, "heads": head_descriptions(self.fitted_heads)}

    def restore(self, state: Mapping[str, Tensor], description: Mapping[str, Any], assets: Mapping[str, bytes]) -> None:
        """Take over saved weights, strictly (see :class:`Model`)."""
        checkpoint = description.get("checkpoint")
        if not isinstance(checkpoint, Mapping):
            raise WeightsError("the repository does not say of which checkpoint it was made", todo="save it again")
        own = take_heads(self, state, description)
        stray = [key for key in own if not key.startswith(_PREFIX)]
        if stray:
            raise WeightsError(f"tensor '{stray[0]}' is not known to the model{nearest(stray[0], own)}")
        self._take({key.removeprefix(_PREFIX): tensor for key, tensor in own.items()})
        self._checkpoint = dict(checkpoint)

    def _take(self, state: Mapping[str, Tensor]) -> None:
        with empty():
            tower = Tower(self.config)
        restore_module(tower, state)
        self._tower = tower.requires_grad_(False).eval()
