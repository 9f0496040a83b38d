"""What an encoder lends to fine-tuning: networks, a differentiable embedding, its own losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from stzoo.core.data.section import Section
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """What a model says of some spots in training.

    Parameters
    ----------
    embedding
        (m, embedding_dim) of this rank's share of the spots (all of them for one rank), as
        :meth:`~stzoo.core.encoder.Encoder.embed` would give it, with gradients; the spots are seen augmented.
    losses
        The model's own losses by name, weighted, scalars whose mean over ranks is the loss of all spots; none where
        they were not asked for.
    """

    embedding: Tensor
    losses: dict[str, Tensor]


class Tunable(ABC):
    """An encoder made ready to be tuned on some sections (returned by ``Encoder.tunable``).

    The network that it lends is the encoder's own: while it is tuned, ``encoder.embed`` uses it as it is then, so that
    validation can be scored at any step. The spots are the measured ones with counts, section by section, in order
    (:attr:`~stzoo.core.data.section.Section.counted`).
    """

    @abstractmethod
    def module(self) -> nn.Module:
        """Return what is tuned; all its parameters ask for gradients in a full tuning."""

    @abstractmethod
    def adapted_layers(self) -> Sequence[str]:
        """Return names of linear layers of :meth:`module` that low-rank adapters go to, e.g. ``blocks.0.mlp.fc1``."""

    def extra(self) -> nn.Module | None:
        """Return what only the model's own losses train beside the module (a discriminator, say), or None."""
        return None

    @abstractmethod
    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw the spots of a batch, int64 (b,), b <= size, the same on all ranks.

        A model that looks at neighbours draws neighbours.
        """

    @abstractmethod
    def batch(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        """Embed this rank's share of spots int64 (b,), in the network's present state.

        Augmentation is drawn from ``generator`` for all of them, so that it does not depend on the number of ranks.
        """

    @abstractmethod
    def finish(self, sections: Sequence[Section]) -> None:
        """Take over the tuned network for use: freeze it, round it as it is saved, recalibrate what belongs to it.

        Parameters
        ----------
        sections
            Sections whose measured spots may be used for that.
        """
