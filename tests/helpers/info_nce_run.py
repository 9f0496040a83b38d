"""A rank's half of a contrastive batch, for test_losses.py; spawned ranks import it by its name."""

from __future__ import annotations

import torch
from stzoo.core.runtime.ranks import Ranks
from stzoo.plugins.comtip.objective import info_nce


def form_half(rank: int, folder: str) -> None:
    """Form the loss of a rank's half of a batch, and save the mean of the ranks' gradients, as DDP would."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    image, text = batch()
    ranks = Ranks(rank, 2)
    image, text = (x[ranks.share(7)].clone().requires_grad_(True) for x in (image, text))
    loss = info_nce(ranks.gather(image, 7), ranks.gather(text, 7), torch.tensor(5.0))
    loss.backward()
    torch.save({"loss": loss.detach(), "image": image.grad, "text": text.grad}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(3))
    return both[0], both[1]
