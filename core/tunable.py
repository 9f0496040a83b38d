"""The interface of fine-tuning: an encoder's network, its differentiable embedding and its own losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from stzoo.core.data.section import Section
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Output of a model for a batch of spots in training.

    Parameters
    ----------
    embedding
        (m, embedding_dim) of this rank's share of the spots (all of them on one rank), with gradients: what
        :meth:`~stzoo.core.encoder.Encoder.embed` returns, but of augmented images.
    losses
        The model's own losses by name, weighted: scalars whose mean over ranks is the loss of the global batch. Empty
        if not requested.
    """

    embedding: Tensor
    losses: dict[str, Tensor]


class Tunable(ABC):
    """An encoder prepared for fine-tuning on some sections (returned by ``Encoder.tunable``).

    The network is the encoder's own, not a copy: during tuning ``encoder.embed`` uses its current weights, so
    validation can be scored at any step. Spots are the measured ones with counts, section by section, in order
    (:attr:`~stzoo.core.data.section.Section.counted`).
    """

    @abstractmethod
    def module(self) -> nn.Module:
        """Return the network to tune; full fine-tuning updates all its parameters."""

    @abstractmethod
    def adapted_layers(self) -> Sequence[str]:
        """Return the names of the linear layers of :meth:`module` that get LoRA adapters, e.g. ``blocks.0.mlp.fc1``."""

    def extra(self) -> nn.Module | None:
        """Return a module used only by the model's own losses (e.g. a discriminator), or None."""
        return None

    @abstractmethod
    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Sample the spots of a batch, int64 (b,) with b <= size, identical on all ranks.

        A model that uses spatial context samples neighbouring spots together.
        """

    @abstractmethod
    def batch(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        """Embed this rank's share of the batch ``chosen``, int64 (b,), with the current weights.

        Augmentation is drawn from ``generator`` for the whole batch, so it does not depend on the number of ranks.
        """

    @abstractmethod
    def finish(self, sections: Sequence[Section]) -> None:
        """Adopt the tuned network: freeze it, round it to the saved precision, recalibrate what depends on it.

        Parameters
        ----------
        sections
            Sections whose measured spots may be used for recalibration.
        """
